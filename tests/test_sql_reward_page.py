"""docs/trainers.md: its table of rewards, its recipes and its files for other trainers, run as they stand."""

from __future__ import annotations

import importlib.util
import re
import sqlite3
from pathlib import Path

import pytest

from floe import SqlReward
from tests.command_line import REPOSITORY
from tests.score_requests import make_database

PAGE = (REPOSITORY / "docs" / "trainers.md").read_text()
CODES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ROW = re.compile(r"^\| (?:(`+) ?(.*?) ?\1|([^`|]+)) \| `(\w+)` \| ([\d.]+) \|$", re.MULTILINE)
ROWS = [(code or text, outcome, float(reward)) for _, code, text, outcome, reward in ROW.findall(PAGE)]
GOLD = "SELECT count(*) FROM customers WHERE city = 'Rome'"


@pytest.fixture
def databases(tmp_path) -> Path:
    folder = tmp_path / "databases"
    folder.mkdir()
    script = (
        "CREATE TABLE customers(id INTEGER PRIMARY KEY AUTOINCREMENT, city);"
        "INSERT INTO customers VALUES (1, 'Oslo'), (2, 'Rome');"
        "CREATE VIEW romans AS SELECT id FROM customers WHERE city = 'Rome'"
    )
    make_database(folder, "shop", script=script)
    return folder


def code_with(text: str) -> str:
    (code,) = [one for one in CODES if text in one]
    return code


def test_the_table_says_what_completions_earn_and_none_changes_a_file(databases, monkeypatch):
    monkeypatch.chdir(databases)  # where a relative name would be made
    database = databases / "shop" / "shop.sqlite"
    content, files = database.read_bytes(), sorted(databases.rglob("*"))
    with SqlReward(databases, time_limit_s=1) as reward:
        scores = reward.score([one for one, _, _ in ROWS], db_id="shop", gold_sql=GOLD)
    assert [(one.outcome.value, one.reward) for one in scores] == [(outcome, value) for _, outcome, value in ROWS]
    assert len(ROWS) == len(re.findall(r"^\| .* \| `\w+` \| .* \|$", PAGE, re.MULTILINE))
    assert {"match", "mismatch", "rejected", "timeout", "too_large", "runtime_error", "no_sql"} <= {
        outcome for _, outcome, _ in ROWS
    }
    assert (database.read_bytes(), sorted(databases.rglob("*"))) == (content, files)


def test_the_recipe_drops_rows_of_failing_golds_and_keeps_those_of_a_file_to_put_right(databases, capsys):
    from datasets import Dataset

    (databases / "bare").mkdir()
    (databases / "bare" / "bare.sqlite").touch()
    ids, golds = ["shop", "shop", "bare"], [GOLD, "SELECT name FROM nowhere", GOLD]
    dataset = Dataset.from_list([{"db_id": one, "gold_sql": gold} for one, gold in zip(ids, golds, strict=True)])
    with SqlReward(databases) as reward:
        names = {"reward": reward, "dataset": dataset}
        exec(code_with("lost = {"), names)
    assert names["dataset"]["db_id"] == ["shop", "bare"]
    assert "database row 2, database 'bare': " in capsys.readouterr().out


def test_the_schema_of_a_prompt_makes_the_database_again(databases):
    names: dict[str, object] = {}
    exec(code_with("def schema_of"), names)
    text = names["schema_of"]("shop", databases)
    with sqlite3.connect(":memory:") as copy:
        copy.executescript(text)
        assert copy.execute("SELECT name FROM sqlite_master").fetchall() == [
            ("customers",), ("sqlite_sequence",), ("romans",),
        ]  # fmt: skip


def test_verls_file_finds_its_databases_from_any_working_folder(databases, monkeypatch, tmp_path_factory):
    file = databases.parent / "reward.py"
    file.write_text(code_with("compute_score ="))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    spec = importlib.util.spec_from_file_location("reward_of_verl", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.compute_score("demo", GOLD, GOLD, {"db_id": "shop"}) == 1.0
