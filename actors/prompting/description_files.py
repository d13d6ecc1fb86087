"""One CSV file of column descriptions: what of it can be read is, and the rest is said."""

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
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # what a spreadsheet's "Unicode text" begins with
MAX_CELL_CHARS = 2**20  # the csv module's own limit is an eighth of that


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptionFile:
    """`rows` by the heading's names, in lower case, each cell on one line, with their numbers; the heading is row 1."""

    rows: tuple[tuple[int, dict[str, str]], ...]
    faults: tuple[str, ...]  # what could not be read, each beginning with its row
    remarks: tuple[str, ...] = ()  # what is not as it should be, and is read all the same


def description_files(folder: Path) -> list[Path]:
    """Return the CSV files of a folder of descriptions; none where there is no such folder."""
    if not folder.is_dir():
        return []
    # Archives made on a Mac bring a hidden file along for each.
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
    if NAME not in names and FULL_NAME in names:  # of a person's own file
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
    """Return what a row says of its column: `description` is what people call it in files of their own."""
    return row.get(DESCRIPTION) or row.get("description") or row.get(FULL_NAME, "")


def _text(raw: bytes) -> tuple[str, list[str]]:
    """UTF-16 where it begins with its mark; else UTF-8, and Windows-1252 where it is not, as BIRD's other files are."""
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
    """Number of the row that follows on `text`; a quoted cell may hold line breaks."""
    try:
        num_rows = sum(1 for _ in csv.reader(io.StringIO(text.replace("\0", ""), newline="")))
    except csv.Error:
        return text.count("\n") + 1
    return max(1, num_rows + text.endswith("\n"))


def _line_by_line(text: str, separator: str) -> tuple[list[list[str]], int]:
    """Each line as a row of its own, so that an open quote swallows no other; and the number of the first such line."""
    lines = [line for line in text.split("\n") if line.strip()]
    rows = [next(csv.reader([line], delimiter=separator)) for line in lines]
    first_open = next((number for number, line in enumerate(lines, start=1) if not _is_closed(line, separator)), 1)
    return rows, first_open


def _is_closed(line: str, separator: str) -> bool:
    try:
        return any(True for _ in csv.reader([line], delimiter=separator, strict=True))
    except csv.Error:
        return False
