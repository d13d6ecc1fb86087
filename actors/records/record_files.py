"""Reads the records of a file in the forms that people share: JSON, JSON lines, CSV, Parquet, any of them gzipped."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json, read_regular
from floe.configs.files.paths import RELATIVE_RULE

MAX_UNPACKED_BYTES = 2**31  # bytes of a gzipped file's content: a few packed bytes may hold any number
# UTF-32's mark begins with UTF-16's.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
TABLE_SUFFIXES = {".csv": ",", ".tsv": "\t"}
GZIP_MAGIC, PARQUET_MAGIC = b"\x1f\x8b", b"PAR1"
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_RECORD_FIELDS = (
    "question",
    "query",
    "SQL",
    "sql",
    "utterance",
)  # names of fields of a single record, which may hold lists too


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record unchanged; `value` is no record where `fault` says why it can't be read."""

    where: str  # "record 3", "line 7"
    index: int  # from 0
    value: Any = None
    fault: str = ""


def read_records(path: Path) -> list[Record]:
    """Return the records of a file in their order. Raises UserError for a file in none of the forms.

    One JSON value: a list, an object that holds one list of objects (`{"data": [...]}`), an object of objects by id, or
    a single record. Otherwise one object after the other, on one line each or over several; or a table with a heading.
    """
    raw = _content(path)
    if raw.startswith(PARQUET_MAGIC):
        return _numbered("row", _parquet(path, raw))
    text = _decoded(path, raw)
    name = path.name.lower().removesuffix(".gz")
    for suffix, separator in TABLE_SUFFIXES.items():
        if name.endswith(suffix):
            return _table(path, text, separator)
    try:
        value = parsed_json(text)
    except ValueError as error:
        return _stream(path, text, str(error))
    return _numbered("record", _listed(path, value))


def _content(path: Path) -> bytes:
    try:
        raw = read_regular(path)
        if raw.startswith(GZIP_MAGIC):
            with gzip.open(io.BytesIO(raw)) as file:
                raw = file.read(MAX_UNPACKED_BYTES + 1)
            if len(raw) > MAX_UNPACKED_BYTES:
                raise UserError(f"{path} holds more than {MAX_UNPACKED_BYTES:,} bytes: unpack it first.")
    except FileNotFoundError:
        raise UserError(f"There is no questions file {path}: check it ({RELATIVE_RULE}).") from None
    except IsADirectoryError:
        raise UserError(f"The questions file {path} is a folder: give the file in it.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"The questions file {path} is a damaged gzip file: copy it once more.") from None
    except OSError as error:
        raise UserError(f"Can't read the questions file {path} ({error.strerror}): check its permissions.") from None
    return raw


def _decoded(path: Path, raw: bytes) -> str:
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"The questions file {path} is not UTF-8 text (line {line}): convert it.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _parquet(path: Path, raw: bytes) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{path} is a Parquet file, which pyarrow reads: pip install pyarrow.") from None
    try:
        return list(pyarrow.parquet.read_table(io.BytesIO(raw)).to_pylist())
    except pyarrow.ArrowException as error:
        raise UserError(f"The questions file {path} is a damaged Parquet file ({error}): copy it once more.") from None


def _table(path: Path, text: str, separator: str) -> list[Record]:
    """Read a table. Semicolons separate cells where the heading has more of them than commas, as in some countries."""
    heading = text.split("\n", 1)[0]
    if separator == "," and heading.count(";") > heading.count(","):
        separator = ";"
    names: list[str] = []
    records: list[Record] = []
    broken = None  # the row before, where it is not CSV
    for line, row in _rows(path, text, separator):
        index, where = len(records), f"row {line}"
        if isinstance(row, str):
            broken = Record(where=where, index=index, fault=row)
            records.append(broken)
            continue
        if not names:
            if records:
                raise _no_csv(path, records[0])
            names = [name.strip() for name in row]
        elif broken is not None and len(row) != len(names):
            raise _no_csv(path, broken)  # the line after it may be inside of it
        elif row:
            fault = f"has {len(row)} cells, the heading has {len(names)}" if len(row) > len(names) else ""
            value = dict(zip(names, row, strict=False))
            records.append(Record(where=where, index=index, value=value, fault=fault))
        broken = None
    if broken is not None and all(one.fault for one in records):
        raise _no_csv(path, broken)
    return records


def _rows(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str] | str]]:
    """Yield each row's last line, and its cells or why it is not CSV.

    Raises UserError where a row that is not CSV may not end with its line.
    """
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        first_line = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            fault = f"is not CSV ({error})"
            if rows.line_num > first_line or "end of data" in str(error):
                raise _no_csv(path, Record(where=f"row {rows.line_num}", index=0, fault=fault)) from None
            yield rows.line_num, fault
            continue
        yield rows.line_num, row


def _no_csv(path: Path, record: Record) -> UserError:
    return UserError(f"{path}, {record.where} {record.fault}: correct it.")


def _listed(path: Path, value: Any) -> list[Any]:
    if isinstance(value, list):
        # A list of lists, one for each of some groups, is read as one list.
        return [one for part in value for one in part] if value and all(isinstance(o, list) for o in value) else value
    if not isinstance(value, dict):
        raise UserError(f"The questions file {path} holds no records: give a list of objects, or one object per line.")
    lists = [part for part in value.values() if isinstance(part, list) and part and isinstance(part[0], dict)]
    if len(lists) == 1 and not any(isinstance(part, str) for name, part in value.items() if name in _RECORD_FIELDS):
        return lists[0]
    if value and all(isinstance(part, dict) for part in value.values()):
        return [{"question_id": name, **part} for name, part in value.items()]
    return [value]


def _stream(path: Path, text: str, reason: str) -> list[Record]:
    """Read one object after the other. A line that is none is a separate fault, unless nothing else is there."""
    records = list(_lines(text))
    if not any(isinstance(record.value, dict) for record in records):
        records = list(_objects(text))
    if not any(isinstance(record.value, dict) for record in records):
        said = "it is empty" if not text.strip() else " ".join(reason.split())
        raise UserError(f"The questions file {path} is neither a JSON list nor JSON lines ({said}): correct it.")
    return records


def _lines(text: str) -> Iterator[Record]:
    # Split at "\n" only: JSON strings may hold the line separators of Unicode.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    for index, (number, line) in enumerate(lines):
        where = f"line {number}"
        try:
            yield Record(where=where, index=index, value=parsed_json(line))
        except ValueError as error:
            yield Record(where=where, index=index, fault=f"is not JSON ({' '.join(str(error).split())})")


def _objects(text: str) -> Iterator[Record]:
    """Return objects that stand over several lines each, up to the first that is broken."""
    place, line, index = _after_space(text, 0), 1 + text.count("\n", 0, _after_space(text, 0)), 0
    while place < len(text):
        where = f"line {line}"
        try:
            value, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            yield Record(where=where, index=index, fault=f"is not JSON ({' '.join(str(error).split())})")
            return
        yield Record(where=where, index=index, value=value)
        end = _after_space(text, end)
        line += text.count("\n", place, end)
        place, index = end, index + 1


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    assert found is not None
    return found.end()


def _numbered(kind: str, values: list[Any]) -> list[Record]:
    return [Record(where=f"{kind} {index}", index=index, value=value) for index, value in enumerate(values)]
