"""Spider 2.0-lite: the questions over SQLite; each gold is a file, and so is each document that a question needs."""

from __future__ import annotations

from pathlib import Path

from floe.actors.layouts.interface import Layout, LayoutFile
from floe.actors.layouts.places import databases_folder, files_named
from floe.actors.records.record_files import Record, read_records
from floe.configs.files.foreign_files import read_regular_text

QUESTIONS = "spider2-lite.jsonl"
GOLDS = Path("evaluation_suite/gold/sql")
DOCUMENTS = Path("resource/documents")
DATABASES = ("resource/databases/spider2-localdb", "resource/databases/sqlite", "resource/databases", "databases")
OF_SQLITE = "local"  # the beginning of their ids; other questions belong to BigQuery and Snowflake


def find(folder: Path, databases_dir: Path | None) -> tuple[LayoutFile, ...]:
    return tuple(
        LayoutFile(
            split="all", questions=path, databases_dir=databases_dir or databases_folder(folder, path.parent, DATABASES)
        )
        for path in files_named(folder, QUESTIONS)
    )


def records(path: Path) -> list[Record]:
    """Return the records with their golds and the text of their documents; questions of other engines have a fault."""
    return [_record(record, path.parent) for record in read_records(path)]


def _record(record: Record, home: Path) -> Record:
    value = record.value
    if record.fault or not isinstance(value, dict):
        return record
    question_id, document = str(value.get("instance_id", "")), value.get("external_knowledge")
    gold = home / GOLDS / f"{question_id}.sql"
    fault = ""
    if not question_id.startswith(OF_SQLITE):
        fault = "is a question of BigQuery or Snowflake, not of SQLite"
    elif not gold.is_file():
        fault = f"has no gold query: {gold} is not there"
    elif isinstance(document, str) and not (home / DOCUMENTS / document).is_file():
        fault = f"needs {home / DOCUMENTS / document}, which is not there"
    if fault:
        return Record(where=record.where, index=record.index, value=value, fault=fault)
    read = {"sql": read_regular_text(gold, "utf-8-sig").strip().removesuffix(";")}
    if isinstance(document, str):
        read["external_knowledge"] = read_regular_text(home / DOCUMENTS / document, "utf-8-sig").strip()
    return Record(where=record.where, index=record.index, value=value | read)


LAYOUT = Layout(
    name="spider2-lite",
    summary=f"Spider 2.0-lite: {QUESTIONS}, {GOLDS}/, {DOCUMENTS}/, {DATABASES[0]}/; SQLite's questions alone",
    find=find,
    records=records,
)
