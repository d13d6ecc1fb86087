"""Reads BIRD's column descriptions: `database_description/*.csv` beside a database, one file per table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from actors.data.schemas import Column, ColumnName, TableSchema
from configs.errors import UserError

FOLDER = "database_description"
NAME, FULL_NAME, DESCRIPTION, VALUES = (
    "original_column_name",
    "column_name",
    "column_description",
    "value_description",
)
ENCODINGS = ("utf-8-sig", "cp1252")  # the second is what BIRD's other files are in


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    text: str
    values: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptions:
    by_column: dict[ColumnName, Description]
    unmatched: tuple[str, ...]  # what names nothing of the database, as "<file>, row <n>: ..."


def read_descriptions(database: Path, tables: Sequence[TableSchema]) -> Descriptions:
    """The descriptions that stand beside a database; none where it has no such folder.

    Tables and columns are found without regard to case, spaces and signs. Columns may be missing in a file, but for
    `original_column_name`. Raises UserError naming file and row for what can't be read.
    """
    folder = database.parent / FOLDER
    by_column: dict[ColumnName, Description] = {}
    unmatched: list[str] = []
    table_of = {_plain(table.name): table for table in tables}
    for path in _csv_files(folder):
        table = table_of.get(_plain(path.stem))
        if table is None:
            unmatched.append(f"{path}: the database has no such table")
            continue
        name_of = {_plain(column.name): column.name for column in table.columns}
        for number, row in _rows(path):
            given = row[NAME]
            if not given:
                continue
            name = name_of.get(_plain(given))
            if name is None:
                unmatched.append(f"{path}, row {number}: the table has no column {given!r}")
                continue
            text = row.get(DESCRIPTION) or row.get(FULL_NAME, "")
            by_column.setdefault(
                ColumnName(table.name, name), Description(text=text, values=_without_heading(row.get(VALUES, "")))
            )
    return Descriptions(by_column=by_column, unmatched=tuple(unmatched))


def described(tables: Sequence[TableSchema], descriptions: Descriptions, *, values: bool) -> tuple[TableSchema, ...]:
    """The tables with their columns' descriptions, and with those of the values where wanted."""

    def described_column(table: TableSchema, column: Column) -> Column:
        found = descriptions.by_column.get(ColumnName(table.name, column.name))
        if found is None:
            return column
        return replace(column, description=found.text, value_description=found.values if values else "")

    return tuple(
        replace(table, columns=tuple(described_column(table, column) for column in table.columns)) for table in tables
    )


def _csv_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    # Archives made on a Mac bring a hidden file along for each.
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".csv" and not p.name.startswith("."))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Number (the heading is row 1) and fields of each row, by the heading's names; every field on one line."""
    reader = csv.reader(io.StringIO(_text(path), newline=""))
    number = 0
    try:
        for number, fields in enumerate(reader, start=1):
            if number == 1:
                heading = [field.strip().lower() for field in fields]
                if NAME not in heading:
                    raise UserError(f"{path}, row 1 has no column {NAME}: name it in the heading, or remove the file.")
                continue
            cells = (" ".join(field.split()) for field in fields)
            yield number, {NAME: ""} | dict(zip(heading, cells, strict=False))
    except csv.Error as fault:
        raise UserError(f"{path}, row {number + 1} is not CSV ({fault}): correct it, or remove the file.") from None


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as fault:
        raise UserError(f"Can't read {path} ({fault.strerror}): check its permissions.") from None
    for encoding in ENCODINGS:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError as fault:
            row = raw.count(b"\n", 0, fault.start) + 1
    raise UserError(
        f"{path}, line {row} is neither UTF-8 nor Windows-1252 text: convert it, remove the file, "
        "or set prompt.descriptions=none."
    )


def _plain(name: str) -> str:
    return "".join(one for one in name.casefold() if one.isalnum())


def _without_heading(text: str) -> str:
    """BIRD opens most value descriptions with the words `commonsense evidence:`."""
    heading, _, rest = text.partition(":")
    return rest.strip() if heading.strip().lower() == "commonsense evidence" else text
