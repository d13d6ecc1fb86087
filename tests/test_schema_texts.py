"""Data sets without databases: the databases made from the CREATE TABLE text of their records."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from floe.actors.databases.contained_databases import ContainedDatabases
from floe.actors.databases.reading_settings import ReadingSettings
from floe.actors.layouts import schema_texts
from floe.actors.layouts.registry import find_files, layout_named
from floe.cluster.operations.prepare import PrepareOptions, prepare
from floe.cluster.preparation.sources import layout_sources
from floe.configs.errors import UserError
from floe.configs.sections.reward_sections import RewardSection

SHOPS = "CREATE TABLE shop (id INT, city TEXT)"
ROWS = "; INSERT INTO shop VALUES (1, 'York'), (2, 'Hull')"
GRETEL = {"id": 7, "sql_prompt": "Which shops are in York?", "sql_context": SHOPS + ROWS,
          "sql": "SELECT id FROM shop WHERE city = 'York'"}  # fmt: skip
EMPTY = GRETEL | {"id": 9, "sql_context": SHOPS}
CONTEXT = {"question": "Which cities?", "context": SHOPS, "answer": "SELECT city FROM shop"}
INSTRUCTION = {
    "instruction": f"{SHOPS}\n\n-- Using valid SQLite, answer the following questions for the tables provided above."
    "\n\n-- Which cities?",
    "output": "SELECT city FROM shop",
}


def lines(path: Path, *records: dict) -> Path:
    path.write_text("\n".join(json.dumps(one) for one in records))
    return path


@pytest.mark.parametrize("record", [GRETEL, CONTEXT, INSTRUCTION])
def test_each_form_has_question_gold_and_a_database_of_its_text(tmp_path, record):
    path = lines(tmp_path / "q.jsonl", record)
    (text,) = schema_texts.schema_texts(path).values()
    assert text.startswith(SHOPS) and "Using valid" not in text
    sources, _ = layout_sources(tmp_path, None, None, {})
    folder = prepare(tmp_path / "out", sources, PrepareOptions(reward=RewardSection(num_workers=1), as_json=True))
    (made,) = (folder / "databases").glob("*/*.sqlite")
    with sqlite3.connect(made) as database:
        assert database.execute("SELECT count(*) FROM shop").fetchone() == ((2,) if record is GRETEL else (0,))


def test_equal_texts_make_one_database_and_rows_keep_a_question(tmp_path):
    lines(tmp_path / "q.jsonl", GRETEL, GRETEL | {"id": 8, "sql_prompt": "Which in Hull?"}, EMPTY)
    sources, notes = layout_sources(tmp_path, None, None, {})
    assert "layout of schema-text" in notes[0]
    folder = prepare(tmp_path / "out", sources, PrepareOptions(reward=RewardSection(num_workers=1), as_json=True))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sum(manifest["counts"]["kept"].values()) == 2
    assert len(list((folder / "made_databases").iterdir())) == 2
    assert any("1 databases have no row" in one for one in manifest["warnings"])
    reasons = [json.loads(line)["reason"] for line in (folder / "dropped.jsonl").read_text().splitlines()]
    assert sorted(reasons) == ["empty_result"]


def test_a_record_without_a_text_and_a_text_that_is_no_sqlite_are_dropped_with_their_reasons(tmp_path):
    lines(tmp_path / "q.jsonl", GRETEL, GRETEL | {"id": 8, "sql_context": "shop"},
          GRETEL | {"id": 9, "sql_context": "CREATE TABLE shop (id ENUM('a', 'b'), PRIMARY KEY id)"})  # fmt: skip
    sources, _ = layout_sources(tmp_path, None, None, {})
    folder = prepare(tmp_path / "out", sources, PrepareOptions(reward=RewardSection(num_workers=1), as_json=True))
    dropped = [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]
    assert {one["reason"] for one in dropped} == {"bad_record", "database_missing"}
    details = " ".join(one["detail"] for one in dropped)
    assert "has no CREATE TABLE text" in details and "makes no SQLite database: near" in details


def test_test_files_are_the_test_split(tmp_path):
    for name in ("synthetic_train.jsonl", "synthetic_test.jsonl"):
        lines(tmp_path / name, GRETEL)
    _, files = find_files(tmp_path, None, None)
    assert {one.questions.stem: one.split for one in files} == {"synthetic_train": "train", "synthetic_test": "test"}


@pytest.fixture(scope="module")
def databases():
    made = ContainedDatabases(ReadingSettings(time_limit_s=0.5, max_memory_bytes=2**26))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ATTACH '{place}/other.sqlite' AS other; CREATE TABLE other.t (a)", "neither CREATE nor INSERT"),
        ("PRAGMA writable_schema = 1", "neither CREATE nor INSERT"),
        ("VACUUM INTO '{place}/other.sqlite'", "neither CREATE nor INSERT"),
        ("CREATE TABLE t (a); CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END", "neither CREATE nor INSERT"),
        ("CREATE VIRTUAL TABLE t USING fts5(a)", "neither CREATE nor INSERT"),
        ("CREATE TABLE t (a); INSERT INTO t SELECT load_extension('x')", "not authorized"),
        (
            "CREATE TABLE t (a); INSERT INTO t "
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
            "CPU time",
        ),
        ("CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(900000000))", "memory"),
        ("CREATE TABLE t (a", "incomplete input"),
    ],
)
def test_a_text_of_anybodys_reaches_no_other_file_and_costs_a_bounded_amount(databases, tmp_path, text, why):
    good, bad, other = databases.build([SHOPS, text.replace("{place}", str(tmp_path)), SHOPS + ROWS])
    assert isinstance(good, bytes) and isinstance(other, bytes)
    assert isinstance(bad, str) and why in bad
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_such_texts_is_none_of_this_layout(tmp_path):
    lines(tmp_path / "q.jsonl", {"question": "?", "sql": "SELECT 1", "context": "no statement"})
    with pytest.raises(UserError, match="in no layout"):
        find_files(tmp_path, None, None)


@pytest.mark.parametrize("name", [None, "schema-text", "bird"])
def test_with_a_folder_of_databases_or_another_layout_it_is_said_what_the_folder_holds(tmp_path, name):
    lines(tmp_path / "q.jsonl", GRETEL)
    (tmp_path / "databases").mkdir()
    layout = None if name is None else layout_named(name)
    databases_dir = None if name == "bird" else tmp_path / "databases"
    way_out = "use floe prepare schema-text" if name == "bird" else "leave out --databases"
    with pytest.raises(UserError, match=f"schema-text.*{way_out}"):
        find_files(tmp_path, databases_dir, layout)
