"""The kind of database `csv`: a folder of CSV files, of each of which SQLite gets a table."""

from __future__ import annotations

import csv
import math
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from floe.configs.errors import UserError

# A number as programs write it: a leading zero or plus sign, or more digits than are kept, belong to text.
INTEGER = re.compile(r"0|-?[1-9][0-9]*")
REAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][+-]?[0-9]+)?|[eE][+-][0-9]+)")
MAX_INTEGER = 2**63 - 1
MAX_EXACT_REAL = 2**53  # a larger integer could change in a column of reals
MAX_CELL_CHARACTERS = 2**31 - 1
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}

Cell = str | int | float | None


class CsvDatabases:
    """Finds `<db_id>/*.csv`. The file names the table, its first line the columns; an empty cell is NULL.

    A column is INTEGER or REAL where every cell that is not empty is such a number, and TEXT otherwise.
    """

    def find(self, folder: Path, db_id: str) -> Path | None:
        place = folder / db_id
        return place if place.is_dir() and _tables_in(place) else None

    def build(self, source: Path, target: Path) -> None:
        """Write the file. Raises UserError with the place of what is no CSV."""
        files = _tables_in(source)
        names: dict[str, Path] = {}
        for file in files:
            if (other := names.setdefault(file.stem.casefold(), file)) != file:
                raise UserError(f"{file} and {other.name} would be the same table in SQLite: rename one.")
        with closing(sqlite3.connect(target)) as connection:
            for file in files:
                _add_table(connection, file)
            connection.commit()


def _tables_in(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.suffix.casefold() == ".csv" and one.name[0] != ".")


def _add_table(connection: sqlite3.Connection, file: Path) -> None:
    header = _header(file)
    types = _types(file, len(header))
    columns = ", ".join(f"{_quoted(name)} {one}" for name, one in zip(header, types, strict=True))
    converters = [CONVERTERS[one] for one in types]
    rows = ([_cell(text, to) for text, to in zip(row, converters, strict=True)] for row in _rows(file, len(header)))
    try:
        connection.execute(f"CREATE TABLE {_quoted(file.stem)} ({columns})")
        connection.executemany(
            f"INSERT INTO {_quoted(file.stem)} VALUES ({', '.join('?' * len(header))})",
            rows,
        )
    except (sqlite3.Error, ValueError) as fault:  # a name with a null character is a ValueError
        raise UserError(f"SQLite can't make a table of {file} ({fault}): correct the file.") from fault


def _header(file: Path) -> list[str]:
    """Return the names of the columns. Raises UserError where they can't be those of a table."""
    header = next(_lines(file), (0, []))[1]
    if not header:
        raise UserError(f"{file} is empty: give a first line with the names of the columns.")
    for number, name in enumerate(header, start=1):
        if not name.strip():
            raise UserError(f"{file} has no name for its column {number}: write one into the first line.")
    separators = [said for one, said in OTHER_SEPARATORS.items() if len(header) == 1 and one in header[0]]
    if separators:
        raise UserError(f"{file} separates its columns by {separators[0]}: save it with commas.")
    seen: dict[str, str] = {}
    for name in header:
        if name.casefold() in seen:
            raise UserError(
                f"{file} has the columns {seen[name.casefold()]!r} and {name!r}, one name to SQLite: rename one."
            )
        seen[name.casefold()] = name
    return header


def _types(file: Path, num_columns: int) -> list[str]:
    """Return the narrowest type of each column that keeps every cell."""
    can_be = [{"INTEGER", "REAL"} for _ in range(num_columns)]
    is_filled = [False] * num_columns
    for row in _rows(file, num_columns):
        for column, text in enumerate(row):
            if text:
                is_filled[column] = True
                if can_be[column]:
                    can_be[column] &= _types_of(text)
    return [
        "TEXT" if not types or not filled else "INTEGER" if "INTEGER" in types else "REAL"
        for types, filled in zip(can_be, is_filled, strict=True)
    ]


def _types_of(text: str) -> set[str]:
    if INTEGER.fullmatch(text):
        if len(text) > 20 or abs(int(text)) > MAX_INTEGER:
            return set()
        return {"INTEGER", "REAL"} if abs(int(text)) <= MAX_EXACT_REAL else {"INTEGER"}
    return {"REAL"} if REAL.fullmatch(text) and math.isfinite(float(text)) else set()


def _cell(text: str, to: Callable[[str], Any]) -> Cell:
    found: Cell = to(text) if text else None
    return found


CONVERTERS: dict[str, Callable[[str], Any]] = {"INTEGER": int, "REAL": float, "TEXT": str}


def _rows(file: Path, num_columns: int) -> Iterator[Sequence[str]]:
    """Yield the rows after the first line. Raises UserError for one with fewer or more cells."""
    lines = _lines(file)
    next(lines, None)
    for number, row in lines:
        if len(row) != num_columns:
            raise UserError(
                f"{file} has {len(row)} cells in the row that ends in line {number}, but {num_columns} columns: "
                "correct that row (a comma within a cell needs quotes around the cell)."
            )
        yield row


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number (from 1) of the last line and cells of each row that is not blank. Raises UserError."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    number = 0
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            for row in reader:
                number = reader.line_num
                if row:
                    yield number, row
    except UnicodeDecodeError as fault:
        raise UserError(
            f"{file} is not UTF-8 text (byte {fault.object[fault.start]:#04x} after line {number}): save it as UTF-8."
        ) from None
    except csv.Error as fault:
        raise UserError(f"{file} is no CSV after line {number} ({fault}): correct its quotes.") from None
    except OSError as fault:
        raise UserError(f"Can't read {file} ({fault.strerror}): check its permissions.") from None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
