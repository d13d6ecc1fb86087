"""Reads BIRD's column descriptions: `database_description/*.csv` next to a database, one file per table.

A file of column meanings, one for all databases, may add what they don't describe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from floe.actors.databases.schemas import Column, ColumnName, TableSchema
from floe.actors.prompting.column_meanings import meaning_files, read_meanings
from floe.actors.prompting.description_files import (
    NAME,
    VALUES,
    DescriptionFile,
    described_text,
    description_files,
    read_description_file,
)
from floe.configs.errors import UserError

FOLDER = "database_description"


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    text: str
    values: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptions:
    by_column: dict[ColumnName, Description]
    unmatched: tuple[str, ...]  # what is wrong with a file or unknown to the database, as "<file>, row <n>: ..."


def read_descriptions(database: Path, tables: Sequence[TableSchema]) -> Descriptions:
    """Return the descriptions that come with a database; empty where it has none.

    Tables and columns are found without regard to case, spaces and signs. A faulty file costs only what it describes,
    and is reported. Raises UserError for a file that can't be read.
    """
    folder = database.parent / FOLDER
    by_column: dict[ColumnName, Description] = {}
    unmatched: list[str] = []
    table_of = {_plain(table.name): table for table in tables}
    for path in description_files(folder):
        table = table_of.get(_plain(path.stem))
        if table is None:
            unmatched.append(f"{path}: the database has no such table")
            continue
        name_of = {_plain(column.name): column.name for column in table.columns}
        read = _read(path)
        unmatched += [f"{path}, {fault}" for fault in read.faults]
        for number, row in read.rows:
            given = row[NAME]
            if not given:
                continue
            name = name_of.get(_plain(given))
            if name is None:
                unmatched.append(f"{path}, row {number}: the table has no column {given!r}")
                continue
            described = Description(text=described_text(row), values=_without_heading(row.get(VALUES, "")))
            by_column.setdefault(ColumnName(table.name, name), described)
    for path in meaning_files(database):
        meanings, faults = _meanings(path, database, tables)
        unmatched += faults
        for column, text in meanings.items():
            known = by_column.get(column)
            if known is None or not known.text:
                by_column[column] = Description(text=text, values=known.values if known else "")
    return Descriptions(by_column=by_column, unmatched=tuple(unmatched))


def described(tables: Sequence[TableSchema], descriptions: Descriptions, *, values: bool) -> tuple[TableSchema, ...]:
    """Return the tables with their columns' descriptions, and with those of the values where wanted."""

    def described_column(table: TableSchema, column: Column) -> Column:
        found = descriptions.by_column.get(ColumnName(table.name, column.name))
        if found is None:
            return column
        return replace(
            column, description=found.text or column.description, value_description=found.values if values else ""
        )

    return tuple(
        replace(table, columns=tuple(described_column(table, column) for column in table.columns)) for table in tables
    )


def _read(path: Path) -> DescriptionFile:
    try:
        return read_description_file(path)
    except OSError as fault:
        raise UserError(f"Can't read {path} ({fault.strerror}): check its permissions.") from None


def _meanings(path: Path, database: Path, tables: Sequence[TableSchema]) -> tuple[dict[ColumnName, str], list[str]]:
    """Return what the file says of this database's columns, and which entries match none of them."""
    try:
        by_database = read_meanings(path)
    except (OSError, ValueError) as fault:
        return {}, [f"{path}: can't be read ({fault})"]
    name_of = {
        (_plain(table.name), _plain(column.name)): ColumnName(table.name, column.name)
        for table in tables
        for column in table.columns
    }
    found, faults = {}, []
    for name, texts in by_database.items():
        if _plain(name) != _plain(database.stem):
            continue
        for (table, column), text in texts.items():
            known = name_of.get((_plain(table), _plain(column)))
            if known is not None:
                found[known] = text
            else:
                faults.append(f"{path}: database {name!r} has no column {column!r} in a table {table!r}")
    return found, faults


def _plain(name: str) -> str:
    return "".join(one for one in name.casefold() if one.isalnum())


def _without_heading(text: str) -> str:
    """Return the text without `commonsense evidence:`, with which BIRD opens most value descriptions."""
    heading, _, rest = text.partition(":")
    return rest.strip() if heading.strip().lower() == "commonsense evidence" else text
