"""LiveSQLBench over SQLite: each database has a folder with its template, its columns' meanings and its knowledge."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from floe.actors.layouts.interface import Layout, LayoutFile
from floe.actors.layouts.places import files_named
from floe.actors.records.record_files import Record, read_records

QUESTIONS = "livesqlbench_data_sqlite.jsonl"


def find(folder: Path, databases_dir: Path | None) -> tuple[LayoutFile, ...]:
    return tuple(
        LayoutFile(split="all", questions=path, databases_dir=databases_dir or path.parent)
        for path in files_named(folder, QUESTIONS)
    )


def records(path: Path) -> list[Record]:
    """Return the records with the knowledge that their ids name as text; those that change data have a fault."""
    known: dict[str, dict[Any, str]] = {}
    return [_record(record, partial(_knowledge, path.parent, known)) for record in read_records(path)]


def _record(record: Record, knowledge: partial[dict[Any, str]]) -> Record:
    value = record.value
    if record.fault or not isinstance(value, dict):
        return record
    database_id, asked = str(value.get("selected_database", "")), value.get("external_knowledge") or []
    golds = value.get("sol_sql")
    texts = knowledge(database_id)
    missing = [one for one in asked if one not in texts] if isinstance(asked, list) else []
    fault = ""
    if str(value.get("category", "Query")).casefold() != "query":
        fault = "changes data (its category is no Query), which floe does not judge"
    elif isinstance(golds, list) and len(golds) > 1:
        fault = f"has {len(golds)} statements to be run one after the other, which floe does not judge"
    elif missing:
        fault = f"needs the knowledge {', '.join(map(str, missing))}, which {database_id}_kb.jsonl does not have"
    evidence = "\n".join(texts[one] for one in asked) if isinstance(asked, list) and not missing else asked
    return Record(where=record.where, index=record.index, value=value | {"external_knowledge": evidence}, fault=fault)


def _knowledge(home: Path, known: dict[str, dict[Any, str]], database_id: str) -> dict[Any, str]:
    """Return the knowledge of a database by id; empty where it has no such file."""
    path = home / database_id / f"{database_id}_kb.jsonl"
    if database_id not in known:
        read = [one.value for one in read_records(path)] if path.is_file() else []
        known[database_id] = {
            one.get("id"): f"{one.get('knowledge', '')}: {one.get('description', '')}"
            for one in read
            if isinstance(one, dict)
        }
    return known[database_id]


LAYOUT = Layout(
    name="livesqlbench",
    summary=f"LiveSQLBench: {QUESTIONS}, <db>/<db>_template.sqlite, <db>/<db>_kb.jsonl; queries alone",
    find=find,
    records=records,
)
