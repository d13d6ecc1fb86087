"""Makes a schema smaller, step by step, when its prompt would exceed the budget (pure)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from actors.data.schemas import Column, ColumnName, TableSchema, literal


class Trimming(StrEnum):
    """What a prompt lacks, from mild to hard: each step keeps what the one before took."""

    NONE = "none"
    EXAMPLES = "examples"  # the sampled ones; values that the question names stay
    DESCRIPTIONS = "descriptions"
    COLUMNS = "columns"


def with_matches(tables: Sequence[TableSchema], hits: Iterable[tuple[ColumnName, str]]) -> tuple[TableSchema, ...]:
    """The tables with the values that the question names put to their columns, in the hits' order."""
    matches: dict[ColumnName, list[str]] = {}
    for name, value in hits:
        matches.setdefault(name, []).append(literal(value))

    def matched(table: TableSchema, column: Column) -> Column:
        values = matches.get(ColumnName(table.name, column.name))
        return column if values is None else replace(column, matches=tuple(dict.fromkeys(values)))

    touched = {name.table for name in matches}
    return tuple(
        replace(table, columns=tuple(matched(table, column) for column in table.columns))
        if table.name in touched
        else table
        for table in tables
    )


def trimmed(tables: Sequence[TableSchema], trimming: Trimming) -> tuple[TableSchema, ...]:
    """The tables without what the step takes from each column; `with_columns` takes columns."""
    if trimming is Trimming.NONE:
        return tuple(tables)
    lost: dict[str, tuple[()] | str] = {"examples": ()}
    if trimming is not Trimming.EXAMPLES:
        lost |= {"description": "", "value_description": ""}
    return tuple(
        replace(table, columns=tuple(replace(column, **lost) for column in table.columns))  # type: ignore[arg-type]
        for table in tables
    )


def with_columns(tables: Sequence[TableSchema], kept: Collection[ColumnName]) -> tuple[TableSchema, ...]:
    """The tables with the kept columns alone; a table that keeps none goes."""
    smaller = (
        replace(table, columns=tuple(c for c in table.columns if ColumnName(table.name, c.name) in kept))
        for table in tables
    )
    return tuple(table for table in smaller if table.columns)


def column_names(tables: Sequence[TableSchema]) -> list[ColumnName]:
    return [ColumnName(table.name, column.name) for table in tables for column in table.columns]


def key_columns(tables: Sequence[TableSchema]) -> frozenset[ColumnName]:
    """Those of primary keys, and of foreign keys at both ends: without them no join can be written."""
    own = {ColumnName(table.name, name) for table in tables for name in table.primary_key}
    for table in tables:
        for key in table.foreign_keys:
            own |= {ColumnName(table.name, name) for name in key.columns}
            own |= {ColumnName(key.table, name) for name in key.referred_columns}
    # SQLite takes names in any case, and keys of tables that are not there.
    folded = {(name.table.casefold(), name.column.casefold()) for name in own}
    return frozenset(n for n in column_names(tables) if (n.table.casefold(), n.column.casefold()) in folded)


def by_relevance(
    names: Sequence[ColumnName], question: str, first: Collection[ColumnName] = frozenset()
) -> list[ColumnName]:
    """`first`, then the columns that share most words with the question, then those whose table does; else in order."""
    asked = _words(question)

    def rank(name: ColumnName) -> tuple[bool, int, int]:
        return name not in first, -len(asked & _words(name.column)), -len(asked & _words(name.table))

    return sorted(names, key=rank)


def dropped_columns(whole: Sequence[TableSchema], left: Sequence[TableSchema]) -> tuple[ColumnName, ...]:
    kept: Mapping[ColumnName, None] = dict.fromkeys(column_names(left))
    return tuple(name for name in column_names(whole) if name not in kept)


def _words(text: str) -> set[str]:
    """In lower case and without a plural's s, also those of `camelCase` and `snake_case`."""
    return {word.lower().rstrip("s") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", text)}
