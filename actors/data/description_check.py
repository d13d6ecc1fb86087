"""Finds what is wrong with the column descriptions that BIRD's databases carry: CSV files, one a table."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Collection
from pathlib import Path

COLUMNS = ("original_column_name", "column_name", "column_description", "data_format", "value_description")


def description_faults(folder: Path, tables: Collection[str]) -> list[str]:
    """A line, with file and row, for each fault of `<folder>/*.csv`. `tables` are the database's, empty when unknown.

    Rows are counted as a spreadsheet does, from 1, the header's.
    """
    names = {table.casefold() for table in tables}
    faults = []
    for path in sorted(folder.glob("*.csv")):
        if names and path.stem.strip().casefold() not in names:
            faults.append(f"{path}: the database has no table of this name")
        faults += [f"{path}, {fault}" for fault in _faults_of_file(path.read_bytes())]
    return faults


def _faults_of_file(content: bytes) -> list[str]:
    faults = []
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        read = error.object  # without a byte-order mark, from whose end the fault is counted
        broken_row = _row_at(read[: error.start].decode())
        faults.append(f"row {broken_row}: byte {read[error.start]:#04x} is no UTF-8")
        text = content.removeprefix(codecs.BOM_UTF8).decode("cp1252", "replace")
    reader = csv.reader(io.StringIO(text.replace("\0", ""), newline=""))
    try:
        rows = list(reader)
    except csv.Error as error:  # a quote that is never closed makes one field of the rest
        return [*faults, f"row {reader.line_num}: {error}"]
    header = [name.strip() for name in rows[0]] if rows else []
    faults += [f"row 1: there is no column {name}" for name in COLUMNS if name not in header]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) > len(header) and any(cell.strip() for cell in row[len(header) :]):
            faults.append(f"row {number}: {len(row)} cells, the header has {len(header)}")
    return faults


def _row_at(text: str) -> int:
    """Number of the row that follows on `text`; a quoted cell may hold line breaks."""
    try:
        num_rows = sum(1 for _ in csv.reader(io.StringIO(text.replace("\0", ""), newline="")))
    except csv.Error:
        return text.count("\n") + 1
    return max(1, num_rows + text.endswith("\n"))
