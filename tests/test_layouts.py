"""Each layout of `floe prepare`: which files, which records, over which databases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from floe.actors.layouts import conversations, defog
from floe.actors.layouts.registry import LAYOUTS, find_files
from floe.actors.questions.questions import find_questions
from floe.actors.records.question_records import FoundQuestions
from floe.cluster.preparation.sources import layout_sources, questions_of
from floe.configs.errors import UserError

PLAIN = {"db_id": "shop", "question": "How many?", "query": "SELECT 1"}
BIRD = {"question_id": 7, "db_id": "shop", "question": "How many?", "SQL": "SELECT 1", "evidence": "e"}


def put(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def read(folder: Path, name: str | None = None) -> dict[str, tuple[str, Path, FoundQuestions]]:
    """Return by questions file: split, databases folder and what it holds."""
    layout = next((one for one in LAYOUTS if one.name == name), None)
    found, files = find_files(folder, None, layout)
    return {
        str(one.questions.relative_to(folder)): (
            one.split,
            one.databases_dir.relative_to(folder),
            find_questions(one.questions, found.records(one.questions)),
        )
        for one in files
    }


FOLDERS: dict[str, tuple[dict[str, Any], dict[str, tuple[str, str]]]] = {
    "spider": (
        {"train_spider.json": [PLAIN], "train_others.json": [PLAIN], "dev.json": [PLAIN], "test.json": [PLAIN],
         "tables.json": [], "database": None},
        {"train_spider.json": ("train", "database"), "train_others.json": ("train", "database"),
         "dev.json": ("test", "database")},
    ),
    "cspider": (
        {"train.json": [PLAIN], "dev.json": [PLAIN], "tables.json": [], "database": None},
        {"train.json": ("train", "database"), "dev.json": ("test", "database")},
    ),
    "bird": (
        {"a/train/train.json": [BIRD], "a/train/train_databases": None, "dev/dev_20240627/dev.json": [BIRD],
         "dev/dev_20240627/dev_databases": None},
        {"a/train/train.json": ("train", "a/train/train_databases"),
         "dev/dev_20240627/dev.json": ("test", "dev/dev_20240627/dev_databases")},
    ),
    "bird of 2025": (
        {"dev_20251106.json": [BIRD], "dev_tables.json": [], "dev_databases": None},
        {"dev_20251106.json": ("test", "dev_databases")},
    ),
    "bird, filtered": (
        {"data/train-00000-of-00001.jsonl": json.dumps(BIRD), "train_databases": None},
        {"data/train-00000-of-00001.jsonl": ("train", "train_databases")},
    ),
    "mini-dev": (
        {"data/mini_dev_sqlite-00000-of-00001.json": [BIRD], "data/mini_dev_pg-00000-of-00001.json": [BIRD],
         "dev_databases": None},
        {"data/mini_dev_sqlite-00000-of-00001.json": ("test", "dev_databases")},
    ),
    "dr-spider": (
        {"data/DB_x/questions_post_perturbation.json": [PLAIN], "data/DB_x/database_post_perturbation": None,
         "data/NLQ_y/questions_post_perturbation.json": [PLAIN], "data/NLQ_y/databases": None},
        {"data/DB_x/questions_post_perturbation.json": ("test", "data/DB_x/database_post_perturbation"),
         "data/NLQ_y/questions_post_perturbation.json": ("test", "data/NLQ_y/databases")},
    ),
    "kaggledbqa": (
        {"examples/GeoNuclearData_test.json": [PLAIN], "examples/GeoNuclearData_fewshot.json": [PLAIN],
         "databases": None},
        {"examples/GeoNuclearData_fewshot.json": ("train", "databases"),
         "examples/GeoNuclearData_test.json": ("test", "databases")},
    ),
    "synsql": (
        {"data.json": [{"db_id": "shop", "sql_complexity": "s", "question_style": "f", "question": "q",
                        "external_knowledge": "k", "cot": "c", "sql": "SELECT 1"}], "databases": None},
        {"data.json": ("all", "databases")},
    ),
    "hub": (
        {"data/train-00000-of-00001.json": [PLAIN], "data/validation-00000-of-00001.json": [PLAIN], "databases": None},
        {"data/train-00000-of-00001.json": ("train", "databases"),
         "data/validation-00000-of-00001.json": ("test", "databases")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_a_layout_is_told_by_its_files(tmp_path, name):
    files, expected = FOLDERS[name]
    found = read(put(tmp_path, files))
    assert {path: (split, str(place)) for path, (split, place, _) in found.items()} == expected
    assert all(len(one.questions) == 1 and not one.bad for _, _, one in found.values())


def test_what_a_layout_does_not_use_is_said(tmp_path):
    folder = put(tmp_path, FOLDERS["spider"][0])
    layout, _ = find_files(folder, None, None)
    assert layout.unused(folder) == (f"{folder}/test.json is not used: the test split is the dev file",)


def test_turns_carry_what_was_said_before_them(tmp_path):
    turns = [{"utterance": "List the lines.", "query": "SELECT line FROM bus"},
             {"utterance": "And seats?", "query": "SELECT line, seats FROM bus"}]  # fmt: skip
    files = {"train.json": [{"database_id": "bus", "interaction": turns}, "text"], "database": None}
    (_, _, found) = read(put(tmp_path, files), "sparc")["train.json"]
    assert [(one.question_id, one.database_id, one.text) for one in found.questions] == [
        ("0-0", "bus", "List the lines."), ("0-1", "bus", "List the lines.\nAnd seats?"),
    ]  # fmt: skip
    assert found.bad[0].where == "record 1"
    assert conversations.LAYOUT.find(put(tmp_path / "other", {"train.json": [PLAIN], "database": None}), None) == ()


def test_ehrsql_says_which_questions_have_no_answer(tmp_path):
    good = PLAIN | {"id": "a", "t_tag": [], "is_impossible": False}
    bad = [PLAIN | {"id": "b", "is_impossible": True}, PLAIN | {"id": "c", "query": "null", "is_impossible": False}]
    (split, _, found) = read(put(tmp_path, {"train.json": [good, *bad], "databases": None}))["train.json"]
    assert split == "train" and [one.question_id for one in found.questions] == ["a"]
    assert all("can't be answered" in one.detail for one in found.bad)


def test_ehrsql_of_2024_has_its_golds_in_another_file(tmp_path):
    data = [{"id": "a", "question": "q", "db_id": "shop", "t_tag": []}, {"id": "b", "question": "q", "db_id": "shop"}]
    files = {
        "data.json": {"version": "1", "data": data},
        "label.json": {"a": "SELECT 1", "b": "null"},
        "databases": None,
    }
    (_, _, found) = read(put(tmp_path, files))["data.json"]
    assert [one.gold_sql for one in found.questions] == [("SELECT 1",)] and len(found.bad) == 1


def test_spider_2_takes_golds_and_documents_from_files(tmp_path):
    lines = [
        {"instance_id": "local001", "db": "shop", "question": "q", "external_knowledge": "towns.md"},
        {"instance_id": "local002", "db": "shop", "question": "q", "external_knowledge": None},
        {"instance_id": "local003", "db": "shop", "question": "q", "external_knowledge": "lost.md"},
        {"instance_id": "bq011", "db": "ga4", "question": "q", "external_knowledge": None},
    ]
    files = {
        "spider2-lite.jsonl": "\n".join(map(json.dumps, lines)),
        "evaluation_suite/gold/sql/local001.sql": "SELECT 1;\n",
        "evaluation_suite/gold/sql/local003.sql": "SELECT 1",
        "resource/documents/towns.md": "A town is a city.\n",
        "resource/databases/spider2-localdb": "",
    }
    files["resource/databases/spider2-localdb/shop.sqlite"] = files.pop("resource/databases/spider2-localdb")
    (_, place, found) = read(put(tmp_path, files))["spider2-lite.jsonl"]
    assert str(place) == "resource/databases/spider2-localdb"
    (question,) = found.questions
    assert (question.question_id, question.gold_sql, question.evidence) == (
        "local001",
        ("SELECT 1",),
        "A town is a city.",
    )
    assert [part in one.detail for part, one in zip(("no gold", "lost.md", "BigQuery"), found.bad, strict=True)] == [
        True
    ] * 3


def test_livesqlbench_takes_knowledge_by_its_id(tmp_path):
    base = {"selected_database": "shop", "query": "How many?", "sol_sql": ["SELECT 1"], "category": "Query"}
    lines = [
        base | {"instance_id": "a", "external_knowledge": [3]},
        base | {"instance_id": "b", "external_knowledge": [9]},
        base | {"instance_id": "c", "external_knowledge": [], "category": "Management"},
        base | {"instance_id": "d", "external_knowledge": [], "sol_sql": ["SELECT 1", "SELECT 2"]},
    ]
    files = {
        "livesqlbench_data_sqlite.jsonl": "\n".join(map(json.dumps, lines)),
        "shop/shop_kb.jsonl": json.dumps({"id": 3, "knowledge": "town", "description": "a town is a city"}),
    }
    (_, place, found) = read(put(tmp_path, files))["livesqlbench_data_sqlite.jsonl"]
    (question,) = found.questions
    assert (question.question_id, question.text, question.evidence) == ("a", "How many?", "town: a town is a city")
    assert str(place) == "." and len(found.bad) == 3 and "knowledge 9" in found.bad[0].detail


@pytest.mark.parametrize(
    ("text", "queries"),
    [
        ("SELECT a FROM t; SELECT a, b FROM t;", ["SELECT a FROM t", "SELECT a, b FROM t"]),
        ("SELECT {a, b} FROM t", ["SELECT a, b FROM t", "SELECT a FROM t", "SELECT b FROM t"]),
        ("SELECT ';' FROM t WHERE x = '{a}'", ["SELECT ';' FROM t WHERE x = '{a}'"]),
        ('SELECT "it;s" FROM {t}', ['SELECT "it;s" FROM t']),
    ],
)
def test_defogs_accepted_queries(text, queries):
    assert defog.accepted_queries(text) == queries


def test_defogs_many_columns_are_bounded():
    assert len(defog.accepted_queries(f"SELECT {{{', '.join('abcdefghijklmnop')}}} FROM t")) == defog.MAX_GOLDS


def test_defogs_csv(tmp_path):
    text = "db_name,db_type,query,question,instructions\nshop,sqlite,SELECT 1;SELECT 2,How many?,Count all.\n"
    (_, _, found) = read(put(tmp_path, {"questions.csv": text, "databases": None}))["questions.csv"]
    (question,) = found.questions
    assert (question.gold_sql, question.evidence) == (("SELECT 1", "SELECT 2"), "Count all.")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "it holds no file"),
        ({"train_spider.jsn": "[]"}, "the nearest is spider, whose train_spider.json is like its train_spider.jsn"),
        ({"notes.md": "x"}, "it holds notes.md"),
    ],
)
def test_a_folder_in_no_layout_gets_the_nearest(tmp_path, files, words):
    with pytest.raises(UserError) as refusal:
        find_files(put(tmp_path, files), None, None)
    assert words in str(refusal.value) and "floe prepare --list" in str(refusal.value)


def test_a_folder_in_another_layout_names_its_command(tmp_path):
    folder = put(tmp_path, FOLDERS["dr-spider"][0])
    sparc = next(one for one in LAYOUTS if one.name == "sparc")
    with pytest.raises(UserError, match="use floe prepare dr-spider"):
        find_files(folder, None, sparc)


def test_questions_without_databases_are_refused_in_a_sentence(tmp_path):
    files = {name: content for name, content in FOLDERS["bird of 2025"][0].items() if content is not None}
    with pytest.raises(UserError, match="no databases folder"):
        find_files(put(tmp_path, files), None, None)


@pytest.mark.parametrize("labels", ["{oops", "[1]"])
def test_a_damaged_file_beside_the_questions_is_refused_in_a_sentence(tmp_path, labels):
    data = [{"id": "a", "question": "q", "db_id": "shop", "t_tag": []}]
    folder = put(tmp_path, {"data.json": data, "label.json": labels, "databases": None})
    sources, _ = layout_sources(folder, None, None, {})
    with pytest.raises(UserError, match="correct it"):
        questions_of(sources[0])
