"""Reads one CSV file of column descriptions: keeps what can be read, and reports the rest."""

from __future__ import annotations

import codecs
import csv
import io
from dataclasses import dataclass
from pathlib import Path

NAME, FULL_NAME, DESCRIPTION, VALUES = (
    "original_column_name",
    "column_name",
    "column_description",
    "value_description",
)
COLUMNS = (NAME, FULL_NAME, DESCRIPTION, "data_format", VALUES)
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # the beginning of a spreadsheet's "Unicode text"
MAX_CELL_CHARS = 2**20  # eight times the csv module's own limit


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptionFile:
    """`rows` by the heading's names in lower case, each cell on one line, with row numbers; the heading is row 1."""

    rows: tuple[tuple[int, dict[str, str]], ...]
    faults: tuple[str, ...]  # what could not be read; each entry begins with its row
    remarks: tuple[str, ...] = ()  # what is not as it should be, and is read nevertheless


def description_files(folder: Path) -> list[Path]:
    """Return the CSV files of a folder of descriptions; empty where there is no such folder."""
    if not folder.is_dir():
        return []
    # Archives made on a Mac contain a hidden file for each.
    return sorted(one for one in folder.iterdir() if one.suffix.lower() == ".csv" and not one.name.startswith("."))


def read_description_file(path: Path) -> DescriptionFile:
    """Return what the file describes. Raises OSError."""
    text, remarks = _text(path.read_bytes())
    faults = []
    if not text.strip():
        return DescriptionFile(rows=(), faults=("row 1: the file is empty",))
    heading = text.split("\n", 1)[0]
    separator = ";" if heading.count(";") > heading.count(",") else ","
    csv.field_size_limit(MAX_CELL_CHARS)
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        table, row = _line_by_line(text, separator)
        faults.append(
            f"row {row}: a quote that is never closed or not the end of its cell ({error}): read line by line"
        )
    names = [name.strip().lower() for name in table[0]]
    if NAME not in names and FULL_NAME in names:  # a person's own file
        names[names.index(FULL_NAME)] = NAME
    if NAME not in names:
        return DescriptionFile(rows=(), faults=(*faults, f"row 1: there is no column {NAME}: nothing of it is read"))
    missing = [name for name in COLUMNS if name not in names and name != FULL_NAME]
    remarks += [f"row 1: there is no column {name}" for name in missing]
    rows = []
    for number, cells in enumerate(table[1:], start=2):
        if any(cell.strip() for cell in cells[len(names) :]):
            remarks.append(f"row {number}: {len(cells)} cells, the header has {len(names)}")
        rows.append((number, {NAME: ""} | dict(zip(names, (" ".join(c.split()) for c in cells), strict=False))))
    return DescriptionFile(rows=tuple(rows), faults=tuple(faults), remarks=tuple(remarks))


def described_text(row: dict[str, str]) -> str:
    """Return what a row says of its column: people's own files call it `description`."""
    return row.get(DESCRIPTION) or row.get("description") or row.get(FULL_NAME, "")


def _text(raw: bytes) -> tuple[str, list[str]]:
    """Return the text: UTF-16 where it begins with its mark; otherwise UTF-8, or Windows-1252, as in BIRD's files."""
    remarks = []
    if raw.startswith(UTF_16):
        text = raw.decode("utf-16", "replace")
    else:
        raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            remarks.append(f"row {_row_at(raw[: error.start].decode())}: byte {raw[error.start]:#04x} is no UTF-8")
            text = raw.decode("cp1252", "replace")
    return text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n"), remarks


def _row_at(text: str) -> int:
    """Return the number of the row after `text`; a quoted cell may hold line breaks."""
    try:
        num_rows = sum(1 for _ in csv.reader(io.StringIO(text.replace("\0", ""), newline="")))
    except csv.Error:
        return text.count("\n") + 1
    return max(1, num_rows + text.endswith("\n"))


def _line_by_line(text: str, separator: str) -> tuple[list[list[str]], int]:
    """Read each line as one row, so that an open quote swallows no other; return the first such line's number too."""
    lines = [line for line in text.split("\n") if line.strip()]
    rows = [next(csv.reader([line], delimiter=separator)) for line in lines]
    first_open = next((number for number, line in enumerate(lines, start=1) if not _is_closed(line, separator)), 1)
    return rows, first_open


def _is_closed(line: str, separator: str) -> bool:
    try:
        return any(True for _ in csv.reader([line], delimiter=separator, strict=True))
    except csv.Error:
        return False
