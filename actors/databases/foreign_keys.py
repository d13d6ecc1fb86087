"""Foreign keys as prompts may show them: between columns that exist (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from floe.actors.databases.schemas import ForeignKey, TableSchema


def with_real_keys(tables: Sequence[TableSchema]) -> tuple[TableSchema, ...]:
    """Return the tables with each key once, under the names that its tables have.

    SQLite accepts names in any case, keys of tables or columns that don't exist, and keys that name no column, which
    refer to the primary key. A key is left out where its columns can't be found.
    """
    table_of = {table.name.casefold(): table for table in tables if not table.is_view}
    return tuple(
        replace(table, foreign_keys=tuple(dict.fromkeys(_real_keys(table, table_of)))) if table.foreign_keys else table
        for table in tables
    )


def _real_keys(table: TableSchema, table_of: Mapping[str, TableSchema]) -> list[ForeignKey]:
    found = []
    for key in table.foreign_keys:
        referred = table_of.get(key.table.casefold())
        if referred is None:
            continue
        columns = _real_names(key.columns, table)
        referred_columns = _real_names(key.referred_columns or referred.primary_key, referred)
        if columns and len(columns) == len(referred_columns):
            found.append(ForeignKey(columns=columns, table=referred.name, referred_columns=referred_columns))
    return found


def _real_names(names: Sequence[str], table: TableSchema) -> tuple[str, ...]:
    """Return the columns' own names; empty where one of them does not exist."""
    name_of = {column.name.casefold(): column.name for column in table.columns}
    found = [name_of.get(name.casefold()) for name in names]
    return tuple(name for name in found if name is not None) if None not in found else ()
