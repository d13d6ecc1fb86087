"""Writes the demo databases and questions to a folder, so that an interrupted write is never taken for complete."""

from __future__ import annotations

import json
import sqlite3
from hashlib import sha256
from pathlib import Path
from random import Random

from floe.actors.demo.databases import DATABASES
from floe.actors.demo.schemas import Database, Rows
from floe.actors.demo.splits import Pair, Split, World, deal
from floe.configs.files.whole_files import write_whole

COMPLETE = "complete.json"


def write_demo(folder: Path, seed: int = 0) -> None:
    """Write `databases/<db_id>/<db_id>.sqlite` and `train.json`, `tune.json`, `test.json`, unless they exist.

    `complete.json` comes last and names the version; without it nothing in the folder counts.
    """
    stamp = json.dumps({"version": demo_version(), "seed": seed}) + "\n"
    complete = folder / COMPLETE
    if complete.exists() and complete.read_text(encoding="utf-8") == stamp:
        return
    complete.unlink(missing_ok=True)
    rows = {database.db_id: database.make_rows(Random(f"{seed}/{database.db_id}")) for database in DATABASES}
    connections = {database.db_id: _in_memory(database, rows[database.db_id]) for database in DATABASES}
    try:
        for db_id, connection in connections.items():
            _write(folder / "databases" / db_id / f"{db_id}.sqlite", connection.serialize())
        dealt = deal(World(rows, connections), seed)
    finally:
        for connection in connections.values():
            connection.close()
    for split, pairs in dealt.items():
        _write(folder / f"{split}.json", _questions_json(split, pairs).encode())
    _write(complete, stamp.encode())


def demo_version() -> str:
    """Return a digest of this package's source: other source may write other questions."""
    digest = sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _in_memory(database: Database, rows: Rows) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    for table in database.tables:
        connection.execute(table.create_sql())
        marks = ", ".join("?" for _ in table.columns)
        connection.executemany(f"INSERT INTO {table.name} VALUES ({marks})", rows[table.name])
    connection.commit()
    return connection


def _questions_json(split: Split, pairs: list[Pair]) -> str:
    questions = [
        {
            "question_id": f"{split}-{number:04d}",
            "db_id": pair.db_id,
            "question": pair.question,
            "query": pair.query,
            "template": pair.template,
            "entity": pair.entity,
            "difficulty": pair.difficulty,
        }
        for number, pair in enumerate(pairs)
    ]
    return json.dumps(questions, indent=1, ensure_ascii=False) + "\n"


def _write(path: Path, content: bytes) -> None:
    """Write the file whole, and its folder; two writers write the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
