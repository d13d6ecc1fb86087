"""Resolves every column of a query on a schema, by sqlglot's optimizer (pure).

A query that sqlglot can't parse is a syntax fault; one that it parses but can't resolve on the schema has no plan.
Nothing is run. Limits: sqlglot's grammar is not SQLite's, so a few statements fall on the other side of either line;
`rowid` counts as no column, since no schema names it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.merge_subqueries import merge_subqueries
from sqlglot.optimizer.qualify import qualify
from sqlglot.schema import MappingSchema

from floe.cluster.databases.dialect import DIALECT
from floe.reward_service.graph.limits import excess
from floe.reward_service.graph.terms import TooManyNodes

MAX_SQL_CHARS = 20_000

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # the parser warns of SQL that it takes for a mere command


class SyntaxFault(Exception):
    """The text is not one query, as far as sqlglot can tell."""


class NoPlan(Exception):
    """The query parses but can't be resolved on the schema, or is beyond the limits."""


def is_parsers_fault(error: SyntaxFault | NoPlan) -> bool:
    """Return whether the parser itself failed on the query, instead of refusing it."""
    cause = error.__cause__
    return cause is not None and not isinstance(cause, SqlglotError | RecursionError | TooManyNodes)


@dataclass(frozen=True, slots=True)
class DatabaseSchema:
    """The tables of a database; `columns` is for sqlglot's optimizer, which lets an unknown table pass."""

    columns: MappingSchema
    tables: Mapping[str, frozenset[str]]  # in lower case


def schema_of(tables: Mapping[str, Mapping[str, str]]) -> DatabaseSchema:
    """Make a schema from table -> column -> declared type; types don't matter here."""
    columns: dict[str, object] = {table: dict.fromkeys(names, "TEXT") for table, names in tables.items()}
    return DatabaseSchema(
        MappingSchema(columns, dialect=DIALECT),
        {table.lower(): frozenset(name.lower() for name in names) for table, names in tables.items()},
    )


def parsed(sql: str) -> exp.Query:
    """Return the one query of the text. Raises SyntaxFault, and NoPlan for a query too long or nested too deep."""
    if len(sql) > MAX_SQL_CHARS:
        raise NoPlan(f"the SQL has {len(sql)} characters, at most {MAX_SQL_CHARS}")
    try:
        statements = [one for one in sqlglot.parse(sql, dialect=DIALECT) if one is not None]
    except SqlglotError as error:
        raise SyntaxFault(str(error)) from error
    except RecursionError as error:
        raise NoPlan("the SQL is nested too deep") from error
    except Exception as error:  # the parser's own faults, for example on a number with thousands of digits
        raise SyntaxFault(f"{type(error).__name__}: {error}") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise SyntaxFault("the text is not exactly one query")
    return statements[0]


def resolved(query: exp.Query, schema: MappingSchema) -> exp.Query:
    """Return a copy with each column bound to its source, stars and references to aliases expanded. Raises NoPlan."""
    if much := excess(query):
        raise NoPlan(f"the query has {much}")
    _refuse_namesakes(query)
    try:
        plain = _with_windows(_with_string_literals(query.copy(), schema))
        found = qualify(plain, schema=schema, dialect=DIALECT, identify=False, quote_identifiers=False)
    except NoPlan:
        raise
    except Exception as error:  # any failure of the optimizer is a property of the query, not of this program
        raise NoPlan(f"{type(error).__name__}: {error}") from error
    assert isinstance(found, exp.Query)
    return found


def merged(query: exp.Query) -> exp.Query:
    """Fold those CTEs and derived tables that change nothing into the resolved query, which is changed.

    Raises NoPlan.
    """
    try:
        found = merge_subqueries(query)
    except Exception as error:  # a property of the query too
        raise NoPlan(f"{type(error).__name__}: {error}") from error
    assert isinstance(found, exp.Query)
    return found


def _refuse_namesakes(query: exp.Query) -> None:
    """Raise NoPlan for two sources of one name: the optimizer would give the second a name that the text lacks."""
    for select in query.find_all(exp.Select):
        parts = [select.args.get("from_"), *(select.args.get("joins") or ())]
        names = [part.this.alias_or_name.lower() for part in parts if part is not None]
        if len({name for name in names if name}) < len([name for name in names if name]):
            raise NoPlan("two sources have the same name")


def _with_string_literals(query: exp.Query, schema: MappingSchema) -> exp.Query:
    """Turn a double-quoted name that is no column into a string, as SQLite does; Spider's golds rely on that."""
    names = {one.alias.lower() for one in query.find_all(exp.Alias, exp.TableAlias) if one.alias}
    names |= {one.name.lower() for alias in query.find_all(exp.TableAlias) for one in alias.columns}
    for table in query.find_all(exp.Table):
        names |= {name.lower() for name in schema.column_names(table)}
    for column in list(query.find_all(exp.Column)):
        name = column.this
        if isinstance(name, exp.Identifier) and name.quoted and not column.table and name.name.lower() not in names:
            column.replace(exp.Literal.string(name.name))
    return query


def _with_windows(query: exp.Query) -> exp.Query:
    """Complete each window named by OVER with what the WINDOW clause says of the name. Raises NoPlan."""
    for select in query.find_all(exp.Select):
        named = {window.this.name.lower(): window for window in select.args.get("windows") or ()}
        own = [window for window in select.find_all(exp.Window) if window.find_ancestor(exp.Select) is select]
        for window in own:
            seen: set[str] = set()
            while window.args.get("alias") is not None:
                name = window.args["alias"].name.lower()
                if name not in named or name in seen:
                    raise NoPlan(f"no window is named {name!r}")
                seen.add(name)
                window.set("alias", None)
                for place, value in named[name].copy().args.items():
                    if place not in ("this", "over") and value and not window.args.get(place):
                        window.set(place, value)
        select.set("windows", None)
    return query
