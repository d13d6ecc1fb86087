"""Finds the columns that a gold query uses, from its parsed SQL."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from floe.actors.databases.schemas import ColumnName, TableSchema
from floe.cluster.databases.dialect import DIALECT

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # the parser warns of SQL that it takes for a mere command


def gold_columns(golds: Sequence[str], tables: Sequence[TableSchema]) -> frozenset[ColumnName]:
    """Return every column that one of the golds may read: rather too many than too few.

    A column without its table's name counts for each table of the query that has it. `*` counts for all columns of
    these tables. A table of which no column is named counts for its first column. A gold that can't be parsed counts
    for the columns and tables whose names are among its words.
    """
    return frozenset(name for gold in golds for name in _used(gold, tables))


def gold_texts(sql: str) -> frozenset[str]:
    """Return the texts that a query compares with; empty for SQL that can't be parsed."""
    try:
        tree = sqlglot.parse_one(sql, dialect=DIALECT)
    except SqlglotError:
        return frozenset()
    found = {one.this for one in tree.find_all(exp.Literal) if one.is_string}
    # Spider writes many texts in double quotes.
    found |= {one.name for one in tree.find_all(exp.Column) if one.this.args.get("quoted") and not one.table}
    return frozenset(filter(None, found))


def what_is_read(gold: str) -> str:
    """Return the query's tables and columns as one line of thought; empty for SQL that can't be parsed."""
    try:
        tree = sqlglot.parse_one(gold, dialect=DIALECT)
    except SqlglotError:
        return ""
    aliases = {one.alias_or_name.lower() for one in tree.find_all(exp.CTE, exp.Subquery)}
    tables = dict.fromkeys(one.name for one in tree.find_all(exp.Table) if one.name.lower() not in aliases)
    columns = dict.fromkeys(one.name for one in tree.find_all(exp.Column) if isinstance(one.this, exp.Identifier))
    return f"{', '.join(tables)}: {', '.join(columns)}" if columns else ", ".join(tables)


def _used(gold: str, tables: Sequence[TableSchema]) -> set[ColumnName]:
    try:
        tree = sqlglot.parse_one(gold, dialect=DIALECT)
    except SqlglotError:
        return _named_in_words(gold, tables)
    sources = [source for source in tree.find_all(exp.Table) if source.name]
    of_alias: dict[str, set[str]] = {}  # an alias may stand for other tables in other parts
    for source in sources:
        for alias in (source.alias_or_name, source.name):
            of_alias.setdefault(alias.lower(), set()).add(source.name.lower())
    mentioned = {source.name.lower() for source in sources}
    names = _column_names(tree, of_alias)
    everything = any(not isinstance(star.parent, exp.Count) for star in tree.find_all(exp.Star))
    used: set[ColumnName] = set()
    for table in tables:
        if table.name.lower() not in mentioned:
            continue
        found = {
            ColumnName(table.name, column.name)
            for column in table.columns
            if everything
            or not {(table.name.lower(), column.name.lower()), ("", column.name.lower())}.isdisjoint(names)
        }
        used |= found or {ColumnName(table.name, table.columns[0].name)}
    return used


def _column_names(tree: exp.Expr, of_alias: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Return (table, column) in lower case; the table is empty where the query does not say which."""
    names: set[tuple[str, str]] = set()
    for column in tree.find_all(exp.Column):
        for table in of_alias.get(column.table.lower(), {""}):
            names.add((table, column.name.lower()))
    for join in tree.find_all(exp.Join):
        names |= {("", one.name.lower()) for one in join.args.get("using") or ()}
    return names


def _named_in_words(gold: str, tables: Sequence[TableSchema]) -> set[ColumnName]:
    text = gold.lower()
    return {
        ColumnName(table.name, column.name)
        for table in tables
        if table.name.lower() in text
        for index, column in enumerate(table.columns)
        if index == 0 or column.name.lower() in text
    }
