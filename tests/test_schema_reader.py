"""Reading of real files by the schema reader."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from floe.reward_service.reading.schema_reader import SchemaReader
from floe.reward_service.verdict import DatabaseUnavailable
from tests.score_requests import make_database

SCRIPT = """
CREATE TABLE Singer ("Singer ID" INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, age, born AS (2020 - age));
INSERT INTO Singer (name) VALUES ('Ann');
CREATE VIEW old AS SELECT name AS who FROM Singer;
CREATE VIRTUAL TABLE words USING fts5(body);
"""


def test_tables_views_and_columns_as_they_are_spelled(tmp_path: Path) -> None:
    path = make_database(tmp_path, "music", script=SCRIPT)
    before = sorted(path.parent.iterdir())
    schema = SchemaReader(tmp_path).schema("music")
    assert schema["Singer"] == {"Singer ID": "INTEGER", "name": "TEXT", "age": "", "born": ""}
    assert schema["old"] == {"who": "TEXT"}
    assert schema["words"] == {"body": ""}
    assert "sqlite_sequence" not in schema
    assert sorted(path.parent.iterdir()) == before


UNREADABLE = """
CREATE TABLE lost (x); CREATE VIEW of_lost AS SELECT x FROM lost; DROP TABLE lost;
PRAGMA writable_schema=ON;
INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql) VALUES
    ('table', 'texts', 'texts', 0, 'CREATE VIRTUAL TABLE texts USING fts4(body, tokenize=nobody_has_it)'),
    ('table', 'shapes', 'shapes', 0, 'CREATE VIRTUAL TABLE shapes USING module_nobody_has(x)');
"""


def test_what_cannot_be_described_is_left_out_and_takes_nothing_else_along(tmp_path: Path) -> None:
    make_database(tmp_path, "music", script=SCRIPT + UNREADABLE)
    assert set(SchemaReader(tmp_path).schema("music")) >= {"Singer", "old", "words"}
    assert not {"of_lost", "texts", "shapes"} & set(SchemaReader(tmp_path).schema("music"))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = make_database(tmp_path, "music", script=SCRIPT)
    reader = SchemaReader(tmp_path)
    assert reader.schema("music") is reader.schema("music")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE song (title TEXT)")
    connection.close()
    assert reader.schema("music")["song"] == {"title": "TEXT"}


@pytest.mark.parametrize("content", [None, b"no database, whatever its name says" * 100])
def test_what_is_no_database_is_named(tmp_path: Path, content: bytes | None) -> None:
    folder = tmp_path / "music"
    folder.mkdir()
    if content is not None:
        (folder / "music.sqlite").write_bytes(content)
    with pytest.raises(DatabaseUnavailable, match=r"music\.sqlite"):
        SchemaReader(tmp_path).schema("music")
