"""Proves that the demo databases and questions are sound, repeatable and split without leaks."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from floe.actors.demo.build import COMPLETE, write_demo
from floe.actors.demo.checks import is_telling, run_backwards, run_query
from floe.actors.demo.databases import DATABASES
from floe.actors.demo.schemas import Database, Kind
from floe.actors.demo.splits import without_literals

SPLITS = ("train", "tune", "test")
Question = dict[str, str]
Questions = dict[str, list[Question]]


@contextmanager
def opened(folder: Path, db_id: str) -> Iterator[sqlite3.Connection]:
    path = folder / "databases" / db_id / f"{db_id}.sqlite"
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("demo") / "data"
    write_demo(target)
    return target


@pytest.fixture(scope="module")
def questions(folder: Path) -> Questions:
    return {split: json.loads((folder / f"{split}.json").read_text(encoding="utf-8")) for split in SPLITS}


def every(questions: Questions) -> list[Question]:
    return [question for split in SPLITS for question in questions[split]]


@pytest.mark.heavy
def test_counts_reach_the_promised_sizes(questions: Questions) -> None:
    assert len(questions["train"]) >= 700
    assert len(questions["tune"]) >= 120
    assert len(questions["test"]) >= 200
    assert len({question["question_id"] for question in every(questions)}) == len(every(questions))


def test_every_split_mixes_databases_and_difficulties(questions: Questions) -> None:
    for split in SPLITS:
        of_split = questions[split]
        assert {question["db_id"] for question in of_split} == {database.db_id for database in DATABASES}
        counts = Counter(question["difficulty"] for question in of_split)
        assert counts["easy"] / len(of_split) == pytest.approx(0.5, abs=0.05)
        assert counts["medium"] / len(of_split) == pytest.approx(0.35, abs=0.05)
        assert counts["hard"] / len(of_split) == pytest.approx(0.15, abs=0.05)


def test_every_gold_gives_the_same_telling_answer_twice(folder: Path, questions: Questions) -> None:
    for database in DATABASES:
        with opened(folder, database.db_id) as connection:
            for question in every(questions):
                if question["db_id"] != database.db_id:
                    continue
                query = question["query"]
                rows = run_query(connection, query)
                again = run_backwards(connection, query)
                assert is_telling(rows), query
                if "ORDER BY" in query:
                    assert rows == again, query
                else:
                    assert sorted(map(repr, rows)) == sorted(map(repr, again)), query


def test_splits_share_no_entity_no_sql_and_no_question(questions: Questions) -> None:
    for field_names in (("template", "entity"), ("db_id", "query"), ("db_id", "question")):
        parts = [{tuple(question[name] for name in field_names) for question in questions[split]} for split in SPLITS]
        assert len(set.union(*parts)) == sum(map(len, parts)), field_names


def test_no_held_back_gold_is_a_trained_one_with_other_literals(questions: Questions) -> None:
    trained = {(question["db_id"], without_literals(question["query"])) for question in questions["train"]}
    for split in ("tune", "test"):
        for question in questions[split]:
            assert (question["db_id"], without_literals(question["query"])) not in trained, question["query"]


def test_every_held_back_template_is_trained_with_other_entities(questions: Questions) -> None:
    trained: dict[str, set[str]] = {}
    for question in questions["train"]:
        trained.setdefault(question["template"], set()).add(question["entity"])
    for split in ("tune", "test"):
        for question in questions[split]:
            assert len(trained[question["template"]]) >= 2, question["template"]


def test_held_back_golds_are_distinct_and_train_has_rewordings(questions: Questions) -> None:
    for split in ("tune", "test"):
        assert len({question["query"] for question in questions[split]}) == len(questions[split])
    wordings = Counter((question["db_id"], question["query"]) for question in questions["train"])
    assert max(wordings.values()) >= 2
    texts = Counter((question["db_id"], question["question"]) for question in every(questions))
    assert max(texts.values()) == 1


@pytest.mark.parametrize(
    "feature",
    [
        " WHERE ", " JOIN ", "COUNT(*)", "COUNT(DISTINCT", "AVG(", "SUM(", "MIN(", "MAX(", " GROUP BY ", " HAVING ",
        " ORDER BY ", " LIMIT ", "NOT IN (SELECT", "(SELECT AVG", " UNION ", " INTERSECT ", " EXCEPT ", "strftime",
        " LIKE ", " BETWEEN ", " IN ('", "IS NULL", "IS NOT NULL", "''", "DISTINCT",
    ],
)  # fmt: skip
def test_every_sql_feature_is_trained_and_tested(questions: Questions, feature: str) -> None:
    assert any(feature in question["query"] for question in questions["train"])
    assert any(feature in question["query"] for question in questions["test"])


def test_both_joins_of_two_and_of_three_tables_occur(questions: Questions) -> None:
    for split in SPLITS:
        assert {1, 2} <= {question["query"].count(" JOIN ") for question in questions[split]}


def test_golds_are_short_and_in_one_style(questions: Questions) -> None:
    for question in every(questions):
        query = question["query"]
        assert query.startswith("SELECT ") and len(query) <= 210
        assert "  " not in query and ";" not in query and "\n" not in query and " AS " not in query


def test_databases_have_nulls_quotes_duplicates_and_sound_keys(folder: Path) -> None:
    for database in DATABASES:
        assert 3 <= len(database.tables) <= 4 and len(database.links) >= 2
        with opened(folder, database.db_id) as connection:
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            values = []
            for table in database.tables:
                rows = connection.execute(f"SELECT * FROM {table.name}").fetchall()
                assert 30 <= len(rows) <= 200
                assert len(connection.execute(f"PRAGMA foreign_key_list({table.name})").fetchall()) == sum(
                    column.references is not None for column in table.columns
                )
                for index, column in enumerate(table.columns):
                    of_column = [row[index] for row in rows]
                    values += of_column
                    assert column.nullable == (None in of_column), column.name
            assert any(isinstance(value, str) and "'" in value for value in values)
            assert _has_namesakes(connection, database)


def _has_namesakes(connection: sqlite3.Connection, database: Database) -> bool:
    for table in database.tables:
        for column in table.columns:
            if column.kind is Kind.NAME and not column.nullable:
                names = connection.execute(f"SELECT {column.name} FROM {table.name}").fetchall()
                if len(set(names)) < len(names):
                    return True
    return False


def contents(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {split: (folder / f"{split}.json").read_bytes() for split in SPLITS}
    for database in DATABASES:
        with opened(folder, database.db_id) as connection:
            found[database.db_id] = list(connection.iterdump())
    return found


@pytest.mark.heavy
def test_the_seed_alone_decides_the_content(folder: Path, tmp_path: Path) -> None:
    write_demo(tmp_path / "same")
    assert contents(tmp_path / "same") == contents(folder)
    write_demo(tmp_path / "same", seed=1)
    other = contents(tmp_path / "same")
    assert all(other[part] != content for part, content in contents(folder).items())


def test_a_complete_folder_is_kept_and_an_interrupted_one_is_written_again(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "demo"
    shutil.copytree(folder, target)
    (target / "test.json").write_text("[]", encoding="utf-8")
    write_demo(target)
    assert (target / "test.json").read_text(encoding="utf-8") == "[]"
    (target / COMPLETE).unlink()
    write_demo(target)
    assert contents(target) == contents(folder)
    assert not [path for path in target.rglob(".*") if path.is_file()]
