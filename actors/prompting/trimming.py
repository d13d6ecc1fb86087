"""Makes a schema smaller, step by step, when its prompt would exceed the budget (pure)."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from floe.actors.databases.schemas import Column, ColumnName, TableSchema, literal


class Trimming(StrEnum):
    """A step of trimming a prompt, from mild to hard: each step keeps out what the one before removed."""

    NONE = "none"
    EXAMPLES = "examples"  # the sampled values; values that the question names stay
    DESCRIPTIONS = "descriptions"
    TYPES = "types"  # and each column's separate line
    COLUMNS = "columns"


def with_matches(tables: Sequence[TableSchema], hits: Iterable[tuple[ColumnName, str]]) -> tuple[TableSchema, ...]:
    """Return the tables with the values that the question names added to their columns, in the hits' order."""
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
    """Return the tables without what the step removes from each column; `with_columns` removes columns."""
    if trimming is Trimming.NONE:
        return tuple(tables)
    is_terse = trimming not in (Trimming.EXAMPLES, Trimming.DESCRIPTIONS)
    lost: dict[str, tuple[()] | str] = {"examples": ()}
    if trimming is not Trimming.EXAMPLES:
        lost |= {"description": "", "value_description": ""}
    if is_terse:
        lost["type"] = ""
    return tuple(
        replace(table, is_terse=is_terse, columns=tuple(replace(column, **lost) for column in table.columns))  # type: ignore[arg-type]
        for table in tables
    )


def with_columns(tables: Sequence[TableSchema], kept: Collection[ColumnName]) -> tuple[TableSchema, ...]:
    """Return the tables with the kept columns alone, and with the keys between these; a table that keeps none goes."""
    names = {table.name: {column.name for column in _kept(table, kept)} for table in tables}

    def has(table: str, columns: Iterable[str]) -> bool:
        return names.get(table, set()).issuperset(columns)

    return tuple(
        replace(
            table,
            columns=_kept(table, kept),
            primary_key=table.primary_key if has(table.name, table.primary_key) else (),
            foreign_keys=tuple(
                key
                for key in table.foreign_keys
                if has(table.name, key.columns) and has(key.table, key.referred_columns)
            ),
        )
        for table in tables
        if names[table.name]
    )


def column_names(tables: Sequence[TableSchema]) -> list[ColumnName]:
    return [ColumnName(table.name, column.name) for table in tables for column in table.columns]


def with_keys(tables: Sequence[TableSchema], chosen: Collection[ColumnName]) -> frozenset[ColumnName]:
    """Return the chosen columns and what joins their tables: primary keys, and the keys on the shortest way between
    them.

    Tables on such a way keep only the columns of its keys.
    """
    picked = {name.table for name in chosen}
    joined = {ColumnName(table.name, name) for table in tables if table.name in picked for name in table.primary_key}
    return frozenset(chosen) | joined | _ways_between(tables, picked)


def _ways_between(tables: Sequence[TableSchema], picked: Collection[str]) -> set[ColumnName]:
    """Return the key columns along shortest ways that connect each picked table to those before it."""
    links: dict[str, list[tuple[str, frozenset[ColumnName]]]] = {}
    for table in tables:
        for key in table.foreign_keys:
            ends = {ColumnName(table.name, name) for name in key.columns}
            ends |= {ColumnName(key.table, name) for name in key.referred_columns}
            links.setdefault(table.name, []).append((key.table, frozenset(ends)))
            links.setdefault(key.table, []).append((table.name, frozenset(ends)))
    found: set[ColumnName] = set()
    connected: set[str] = set()
    for place in (one.name for one in tables if one.name in picked):
        found |= _way(links, place, connected)
        connected.add(place)
        found |= {name for other, ends in links.get(place, ()) if other in connected for name in ends}
    return found


def _way(
    links: Mapping[str, Sequence[tuple[str, frozenset[ColumnName]]]], start: str, goals: Collection[str]
) -> set[ColumnName]:
    """Return the key columns of a shortest way from `start` to one of `goals`; empty where there is no way."""
    reached: dict[str, frozenset[ColumnName]] = {start: frozenset()}
    waiting = deque([start])
    while waiting:
        place = waiting.popleft()
        if place in goals:
            return set(reached[place])
        for other, ends in links.get(place, ()):
            if other not in reached:
                reached[other] = reached[place] | ends
                waiting.append(other)
    return set()


def _kept(table: TableSchema, kept: Collection[ColumnName]) -> tuple[Column, ...]:
    return tuple(column for column in table.columns if ColumnName(table.name, column.name) in kept)


def dropped_columns(whole: Sequence[TableSchema], left: Sequence[TableSchema]) -> tuple[ColumnName, ...]:
    kept: Mapping[ColumnName, None] = dict.fromkeys(column_names(left))
    return tuple(name for name in column_names(whole) if name not in kept)
