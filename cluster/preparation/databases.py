"""Finds the databases of the questions, and makes those for which a data set has only the text of CREATE TABLE."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from floe.actors.databases.contained_databases import build_databases, read_schema
from floe.actors.databases.database_files import content_digest, fault_of_file
from floe.cluster.databases.places import find_database
from floe.cluster.messages import Question
from floe.cluster.preparation.sources import Source
from floe.configs.errors import UserError

MADE_FOLDER = "made_databases"  # subfolder of a prepared folder
BATCH_TEXTS = 64
INSERT = re.compile(r"\binsert\b", re.IGNORECASE)
NO_ROW = "their golds are dropped as empty_result or degenerate: put INSERT statements next to the CREATE TABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDatabases:
    files: Mapping[str, Path]
    digests: Mapping[str, str]
    tables: Mapping[str, tuple[str, ...]]
    missing: Mapping[str, str]  # why it can't be used
    notes: tuple[str, ...] = ()


def find_databases(questions: Sequence[tuple[Source, Sequence[Question]]], folder: Path) -> FoundDatabases:
    """Return the files; those that must be made are made in the prepared folder.

    Raises UserError when there is none at all, and for one id with two files.
    """
    not_made: dict[str, str] = {}
    num_empty = 0
    files: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for source, asked in questions:
        place = source.databases_dir
        if source.schema_texts is not None:
            place = folder / MADE_FOLDER
            texts = source.schema_texts(source.questions)
            not_made |= _make(texts, place)
            num_empty += sum(not INSERT.search(text) for text in texts.values())
        for database_id in sorted({one.database_id for one in asked}):
            path = find_database(place, database_id)
            if path is not None and files.setdefault(database_id, path) != path:
                raise UserError(
                    f"The database '{database_id}' is both {files[database_id]} and {path}: prepare them separately."
                )
            if path is None and database_id not in files:
                missing[database_id] = not_made.get(database_id, f"there is no database {database_id} in {place}")
            elif path is not None and (fault := fault_of_file(path)):
                missing[database_id] = fault
    tables: dict[str, tuple[str, ...]] = {}
    for database_id in sorted(files.keys() - missing.keys()):
        try:
            tables[database_id] = tuple(table.name for table in read_schema(files[database_id], 0))
        except UserError as fault:
            missing[database_id] = str(fault)
    if not tables:
        raise UserError(
            f"No question has a database: {next(iter(missing.values()))}; give the folder of the databases."
        )
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        digests = dict(zip(tables, pool.map(content_digest, (files[one] for one in tables)), strict=True))
    notes = (f"{num_empty} databases have no row: {NO_ROW}",) if num_empty else ()
    return FoundDatabases(
        files={one: files[one] for one in tables}, digests=digests, tables=tables, missing=missing, notes=notes
    )


def _make(texts: Mapping[str, str], place: Path) -> dict[str, str]:
    """Make them; return why some were not made. An existing one has the same text: its name is a digest of that."""
    place.mkdir(exist_ok=True)
    not_made: dict[str, str] = {}
    left = [one for one in texts if not (place / f"{one}.sqlite").is_file()]
    for start in range(0, len(left), BATCH_TEXTS):
        batch = left[start : start + BATCH_TEXTS]
        for database_id, made in zip(batch, build_databases([texts[one] for one in batch]), strict=True):
            if isinstance(made, str):
                not_made[database_id] = f"its CREATE TABLE text makes no SQLite database: {made}"
                continue
            partial = place / f"{database_id}.partial"
            partial.write_bytes(made)
            partial.replace(place / f"{database_id}.sqlite")
    return not_made
