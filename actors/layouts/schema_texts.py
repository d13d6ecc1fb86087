"""Data sets that have the text of CREATE TABLE statements with each question, in place of databases."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from floe.actors.layouts.interface import Layout, LayoutFile
from floe.actors.layouts.places import files_named
from floe.actors.questions.questions import first_record
from floe.actors.records.record_files import Record, read_records
from floe.configs.errors import UserError

TEXT_FIELDS = ("sql_context", "context", "schema", "create_table", "ddl")  # Gretel's, sql-create-context's, others'
INSTRUCTION, OUTPUT = "instruction", "output"  # NSText2SQL, whose instruction holds schema and question
_CREATES = re.compile(r"\bcreate\s+(temp(orary)?\s+)?(table|view)\b", re.IGNORECASE)
# Between schema and question stands a line such as "-- Using valid SQLite, answer the following questions for the
# tables above."
_INSTRUCTION = re.compile(
    r"(?P<schema>.*?)\n\s*--[^\n]*answer the following questions[^\n]*\n(?P<question>.*)", re.DOTALL | re.IGNORECASE
)
_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")


def records(path: Path) -> list[Record]:
    """Return the records with the id of the database that their text makes; equal texts make one database."""
    return [_record(one) for one in read_records(path)]


def schema_texts(path: Path) -> dict[str, str]:
    """Return the text of each database by its id."""
    texts = (_parts(one.value)[0] for one in read_records(path) if isinstance(one.value, dict))
    return {_database_id(text): text for text in texts if text}


def _record(record: Record) -> Record:
    if record.fault or not isinstance(record.value, dict):
        return record
    text, others = _parts(record.value)
    if not text:
        return Record(where=record.where, index=record.index, value=record.value, fault="has no CREATE TABLE text")
    named = record.value | others | {"db_id": _database_id(text)}
    return Record(where=record.where, index=record.index, value=named)


def _parts(value: Mapping[str, object]) -> tuple[str, dict[str, str]]:
    """Return the CREATE TABLE text of a record, empty without one, and the rest of its instruction."""
    for name in TEXT_FIELDS:
        text = value.get(name)
        if isinstance(text, str) and _CREATES.search(text):
            return text.strip(), {}
    instruction, output = value.get(INSTRUCTION), value.get(OUTPUT)
    found = _INSTRUCTION.match(instruction) if isinstance(instruction, str) else None
    if found is None or not isinstance(output, str) or not _CREATES.search(found["schema"]):
        return "", {}
    asked = " ".join(line.strip().removeprefix("--").strip() for line in found["question"].splitlines())
    return found["schema"].strip(), {"question": asked.strip(), "query": output}


def _database_id(text: str) -> str:
    return f"schema_{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:16]}"


def _is_ours(path: Path) -> bool:
    try:
        return bool(_parts(first_record(path))[0])
    except UserError:  # the layout that has the file reports what is wrong with it
        return False


def _find(folder: Path, databases_dir: Path | None) -> tuple[LayoutFile, ...]:
    """Return the files of one place whose first record has such a text; one named for the test split is that."""
    if databases_dir is not None:
        return ()
    files = [one for pattern in _SUFFIXES for one in files_named(folder, f"*{pattern}") if _is_ours(one)]
    tests = {one for one in files if "test" in one.stem.lower()}
    return tuple(
        LayoutFile(split="test" if one in tests else "train" if tests else "all", questions=one, databases_dir=folder)
        for one in sorted(files)
    )


LAYOUT = Layout(
    name="schema-text",
    summary="CREATE TABLE text with each question in the place of databases: Gretel, sql-create-context, NSText2SQL",
    find=_find,
    records=records,
    schema_texts=schema_texts,
)
