"""Measures how alike two queries are as texts: schema items and n-grams (sqlglot, on a known schema; pure)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Set
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import traverse_scope
from sqlglot.schema import MappingSchema

from floe.cluster.databases.dialect import DIALECT

NGRAM_TOKENS = 2
MAX_CHARS = 5_000  # characters of a text that is examined: a longer one is no answer
MAX_DEPTH = 30  # depth of parentheses: sqlglot recurses
MAX_JOINS = 30  # each USING names all tables before it
UNKNOWN_TABLE = "?"


@dataclass(frozen=True, slots=True)
class QueryParts:
    """`schema_items`: `table` and `table.column`, lower case; `ngrams`: of tokens, aliases resolved."""

    schema_items: frozenset[str]
    ngrams: frozenset[tuple[str, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class KnownSchema:
    """A database's tables and columns in lower case, and the same in the form that sqlglot takes."""

    columns: Mapping[str, frozenset[str]]
    resolver: MappingSchema

    @classmethod
    def of(cls, schema: Mapping[str, Mapping[str, str]]) -> KnownSchema:
        lower = {
            table.lower(): {column.lower(): "TEXT" for column in columns}
            for table, columns in schema.items()
            if columns
        }
        columns = {table: frozenset(names) for table, names in lower.items()}
        # Types don't matter here, and sqlglot may not know a declared one.
        typed: dict[str, object] = dict(lower)
        return cls(columns, MappingSchema(typed, dialect=DIALECT, normalize=False))


def query_parts(sql: str, schema: KnownSchema) -> QueryParts | None:
    """Return the parts; None for what is no single query, can't be read by sqlglot, or is too long or too deep.

    Raises any other error of sqlglot: some valid queries cause one.
    """
    if len(sql) > MAX_CHARS or _depth(sql) > MAX_DEPTH:
        return None
    try:
        trees = sqlglot.parse(sql, dialect=DIALECT)
        if len(trees) != 1 or not isinstance(trees[0], exp.Query) or _num_joins(trees[0]) > MAX_JOINS:
            return None
        _settle_positions(trees[0])
        tree = _qualified(trees[0], schema)
        items = _resolve(tree, schema)
        tokens = _tokens(tree)
    except (SqlglotError, RecursionError):
        return None
    return QueryParts(frozenset(items), frozenset(_ngrams(tokens)))


def jaccard(one: Set[Hashable], other: Set[Hashable]) -> float:
    """Return |A and B| / |A or B|; 1 for two empty sets."""
    either = len(one | other)
    return len(one & other) / either if either else 1.0


def _settle_positions(tree: exp.Query) -> None:
    """Replace numbers in GROUP BY and ORDER BY by the columns they mean; copied expressions could grow the tree."""
    for select in tree.find_all(exp.Select):
        shown = [one.unalias() for one in select.expressions]
        groups = select.args["group"].expressions if select.args.get("group") else []
        orders = [one.this for one in select.args["order"].expressions] if select.args.get("order") else []
        for position in (*groups, *orders):
            if isinstance(position, exp.Literal) and position.is_int:
                meant = shown[int(position.name) - 1] if 0 < int(position.name) <= len(shown) else None
                position.replace(meant.copy() if isinstance(meant, exp.Column) else exp.var(position.name))


def _qualified(tree: exp.Query, schema: KnownSchema) -> exp.Query:
    """Return columns with their table or its alias, where sqlglot can tell; the tree itself where it gives up on it."""
    try:
        return qualify(
            tree.copy(),
            schema=schema.resolver,
            dialect=DIALECT,
            # Each of the two can double the tree for every level of a query.
            expand_alias_refs=False,
            expand_stars=False,
            allow_partial_qualification=True,
            validate_qualify_columns=False,
            quote_identifiers=False,
        )
    except Exception:  # such as an ambiguous column, or ORDER BY 1 of a UNION, which SQLite accepts
        return tree


def _resolve(tree: exp.Query, schema: KnownSchema) -> set[str]:
    """Return the schema items of a qualified tree, whose columns are then named by their tables, not by aliases."""
    items: set[str] = set()
    done: set[int] = set()
    in_sight: dict[int, Mapping[str, str]] = {}  # tables by alias, of the query with this id
    for scope in traverse_scope(tree):
        tables = {
            alias: source.name.lower() for alias, source in scope.sources.items() if isinstance(source, exp.Table)
        }
        in_sight[id(scope.expression)] = tables
        items.update(tables.values())
        if isinstance(scope.expression, exp.Select):
            items.update(_starred(scope.expression, tables, schema))
        for column in scope.columns:
            if id(column) in done or isinstance(column.this, exp.Star):
                continue
            if column.table in tables:
                done.add(id(column))
                _name(column, tables[column.table], items)
            elif column.table in scope.sources:  # column of a subquery or CTE, whose own columns are counted there
                done.add(id(column))
                column.set("table", None)
    for column in list(tree.find_all(exp.Column)):
        if id(column) in done or column.name in items or isinstance(column.this, exp.Star):
            continue
        table = None if column.table else _owner_around(column, in_sight, schema)
        if table is not None:
            _name(column, table, items)
        else:
            _name_unknown(column, items)
    return items


def _owner_around(column: exp.Column, in_sight: Mapping[int, Mapping[str, str]], schema: KnownSchema) -> str | None:
    """Return the table with such a column, if only one has it: sqlglot leaves some columns of HAVING without one."""
    above = column.parent
    while above is not None:
        tables = in_sight.get(id(above), {})
        owners = {table for table in tables.values() if column.name.lower() in schema.columns.get(table, ())}
        if owners:
            return owners.pop() if len(owners) == 1 else None
        above = above.parent
    return None


def _name(column: exp.Column, table: str, items: set[str]) -> None:
    name = f"{table}.{column.name.lower()}"
    items.add(name)
    column.replace(exp.column(exp.to_identifier(name, quoted=True)))


def _name_unknown(column: exp.Column, items: set[str]) -> None:
    """Name the rest: a quoted name that is no column is a text to SQLite; an alias of the query is no schema item."""
    if not column.table and (column.this.args.get("quoted") or column.name.lower() in _aliases_around(column)):
        return
    items.add(f"{column.table.lower() or UNKNOWN_TABLE}.{column.name.lower()}")


def _aliases_around(column: exp.Column) -> Iterator[str]:
    above = column.parent
    while above is not None:
        for shown in above.selects if isinstance(above, exp.Query) else ():
            meant = shown.unalias()
            is_itself = isinstance(meant, exp.Column) and not meant.table and meant.name == shown.alias
            if isinstance(shown, exp.Alias) and not is_itself:
                yield shown.alias.lower()
        above = above.parent


def _starred(select: exp.Select, tables: Mapping[str, str], schema: KnownSchema) -> Iterator[str]:
    """Return the columns behind `*` and `t.*`."""
    for shown in select.expressions:
        if not shown.is_star:
            continue
        named = shown.table if isinstance(shown, exp.Column) else ""
        for alias, table in tables.items():
            if named in ("", alias):
                yield from (f"{table}.{column}" for column in schema.columns.get(table, ()))


def _tokens(tree: exp.Query) -> list[str]:
    """Return the tokens of the query in one spelling: no aliases, a column one token, keywords in upper case."""
    for select in tree.find_all(exp.Select):
        shown = {one.alias: one.this for one in select.expressions if isinstance(one, exp.Alias)}
        for ordered in select.args["order"].expressions if select.args.get("order") else ():
            meant = shown.get(ordered.this.name) if isinstance(ordered.this, exp.Column) else None
            if isinstance(meant, exp.Column) and not ordered.this.table:
                ordered.this.replace(meant.copy())
    for node in list(tree.find_all(exp.Alias, exp.TableAlias)):
        if isinstance(node, exp.Alias):
            node.replace(node.this)
        elif not isinstance(node.parent, exp.CTE):
            node.pop()
    text = tree.sql(dialect=DIALECT, comments=False)
    return [token.text for token in sqlglot.tokenize(text, dialect=DIALECT)]


def _ngrams(tokens: list[str]) -> Iterator[tuple[str, ...]]:
    """Return the n-grams. A text shorter than one n-gram is one."""
    for start in range(max(1, len(tokens) - NGRAM_TOKENS + 1)):
        yield tuple(tokens[start : start + NGRAM_TOKENS])


def _num_joins(tree: exp.Query) -> int:
    return sum(1 for _ in tree.find_all(exp.Join))


def _depth(sql: str) -> int:
    depth = deepest = 0
    for character in sql:
        if character == "(":
            depth += 1
            deepest = max(deepest, depth)
        elif character == ")":
            depth -= 1
    return deepest
