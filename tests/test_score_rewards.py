"""`floe score --reward NAME`: one file of predictions under each design."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import floe
from tests.score_requests import make_database

GOLD = "SELECT name FROM emp WHERE dept = 'it'"
SAME = "SELECT name FROM emp WHERE id IN (1, 3)"
RUNS, FAILS = "SELECT name FROM emp", "SELECT wages FROM emp"


def reply(sql: str) -> str:
    return f"<think>it</think><answer>```sql\n{sql}\n```</answer>"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    make_database(tmp_path, "emp")
    question = {"question_id": "q", "db_id": "emp", "question": "who is in it?", "query": GOLD}
    (tmp_path / "questions.json").write_text(json.dumps([question]))
    lines = [json.dumps({"question_id": "q", "completion": text}) for text in (*map(reply, (SAME, RUNS, FAILS)), SAME)]
    (tmp_path / "predictions.jsonl").write_text("\n".join(lines))
    return [
        "score", "--questions", str(tmp_path / "questions.json"), "--databases", str(tmp_path),
        "--predictions", str(tmp_path / "predictions.jsonl"), "--json", "--workers", "1",
    ]  # fmt: skip


def scored(files: list[str], home: Path, *arguments: str) -> list[dict]:
    done = floe(*files, *arguments, home=home)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_arctic_is_the_default_and_its_floor_a_setting(files, tmp_path):
    assert [line["reward"] for line in scored(files, tmp_path)] == [1.0, 0.1, 0.0, 1.0]
    floored = scored(files, tmp_path, "--reward", "arctic", "--set", "reward.arctic_format_floor=true")
    assert [line["reward"] for line in floored] == [1.0, 0.1, 0.1, 1.0]


def test_sql_r1_adds_its_terms_up_and_wants_its_format(files, tmp_path):
    right, wrong, failing, bare = scored(files, tmp_path, "--reward", "sql_r1")
    assert 6 < right["reward"] <= 7.5 and right["terms"]["result"] == 3
    assert wrong["reward"] == 0 and wrong["terms"] == {"format": 1, "execution": 2, "result": -3, "length": 0}
    assert failing["reward"] == -1 and failing["outcome"] == "runtime_error"
    assert bare["reward"] == -1 and bare["outcome"] == "match"


def test_a_design_that_is_none_is_refused_in_one_sentence(files, tmp_path):
    done = floe(*files, "--reward", "nope", home=tmp_path)
    assert done.returncode == 2
    assert "reward.design" in done.stderr and "Traceback" not in done.stderr
