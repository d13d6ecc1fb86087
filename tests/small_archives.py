"""Small question files and databases in the layouts that people have."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from floe.actors.layouts.registry import layout_named
from floe.cluster.preparation.sources import Source, layout_sources

SLOW_SQL = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000000) SELECT max(i) FROM n"


def archive_sources(folder: Path, name: str) -> tuple[Source, ...]:
    return layout_sources(folder, None, layout_named(name), {})[0]


def make_database(path: Path, extra: Sequence[str] = ()) -> Path:
    """Make a table `pet(id, name, age)` of three rows, and what `extra` statements add."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE pet (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)")
    connection.executemany("INSERT INTO pet VALUES (?, ?, ?)", [(1, "Ada", 3), (2, "Bo", 5), (3, "Cy", None)])
    for statement in extra:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


def record(database_id: str, text: str, sql: str, **more) -> dict:
    return {"db_id": database_id, "question": text, "query": sql} | more


def write_json(path: Path, records: Sequence[dict], encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records, ensure_ascii=False), encoding=encoding)
    return path


def spider_folder(folder: Path, train: Sequence[dict], dev: Sequence[dict], databases: Sequence[str]) -> Path:
    """Make a folder in the official archive's form."""
    write_json(folder / "train_spider.json", train)
    write_json(folder / "dev.json", dev)
    write_json(folder / "tables.json", [{"db_id": name} for name in databases])
    for name in databases:
        make_database(folder / "database" / name / f"{name}.sqlite")
    return folder


def bird_folder(folder: Path, dev: Sequence[dict], databases: Sequence[str]) -> Path:
    """BIRD's dev archive, descriptions included; golds stand under SQL."""
    renamed = [{"SQL" if name == "query" else name: value for name, value in one.items()} for one in dev]
    write_json(folder / "dev.json", renamed)
    for name in databases:
        home = folder / "dev_databases" / name
        make_database(home / f"{name}.sqlite")
        (home / "database_description").mkdir()
        (home / "database_description" / "pet.csv").write_text(
            "original_column_name,column_name,column_description,data_format,value_description\n"
            "age,age,in years,integer,\n",
            encoding="utf-8-sig",
        )
    return folder
