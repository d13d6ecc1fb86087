"""`floe score --reward NAME`: one file of predictions under each design."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from floe.reward_service.graph.build import build
from floe.reward_service.graph.encoding import Vocabulary
from floe.reward_service.graph.network import GraphMatchingNetwork, NetworkShape
from floe.reward_service.graph.network_files import write_network
from floe.reward_service.graph.plan import schema_of
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


@pytest.mark.heavy
def test_sql_r1_adds_its_terms_up_and_wants_its_format(files, tmp_path):
    right, wrong, failing, bare = scored(files, tmp_path, "--reward", "sql_r1")
    assert 6 < right["reward"] <= 7.5 and right["terms"]["result"] == 3
    assert wrong["reward"] == 0 and wrong["terms"] == {"format": 1, "execution": 2, "result": -3, "length": 0}
    assert failing["reward"] == -1 and failing["outcome"] == "runtime_error"
    assert bare["reward"] == -1 and bare["outcome"] == "match"


@pytest.mark.heavy
def test_reasoning_sql_without_a_judge_adds_partial_terms(files, tmp_path):
    arguments = ("--reward", "reasoning_sql", "--set", "reward.reasoning_judge_weight=0")
    right, wrong, failing, bare = scored(files, tmp_path, *arguments)
    assert right["reward"] == 3 + 1 + 1 + 1 + 1  # execution, and the partial terms in full
    assert wrong["reward"] == pytest.approx(2 + wrong["terms"]["schema"] + wrong["terms"]["ngram"])  # it runs, tagged
    assert 1 <= failing["reward"] < wrong["reward"] < bare["reward"] == 6


@pytest.mark.heavy
def test_the_stepwise_graph_reward_runs_nothing(files, tmp_path):
    weights = ("--set", "reward.graph_outcome_weight=0", "--set", "reward.graph_stepwise_weight=1")
    same, wrong, failing, _ = scored(files, tmp_path, "--reward", "graph_reward", *weights)
    assert {line["outcome"] for line in (same, wrong, failing)} == {"not_executed"}
    assert 0 < wrong["reward"] < 1 and failing["reward"] == 0
    assert all(line["seconds"] == 0 for line in (same, wrong, failing))


@pytest.mark.heavy
def test_the_graph_distance_needs_its_network(files, network_dir, tmp_path):
    done = floe(*files, "--reward", "graph_reward", home=tmp_path)
    assert done.returncode == 2 and "reward.graph_network" in done.stderr
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text(json.dumps({"question_id": "q", "completion": reply(GOLD.lower())}) + "\n")
    (gold,) = scored(files, tmp_path, "--reward", "graph_reward", "--set", f"reward.graph_network={network_dir}")
    assert gold["reward"] == 1.0 and gold["outcome"] == "not_executed"


@pytest.fixture
def network_dir(tmp_path: Path) -> Path:
    """Return a network of random weights: equal graphs are at distance 0 whatever they are."""
    vocabulary = Vocabulary.of([build(GOLD, schema_of({"emp": {"id": "", "name": "", "dept": ""}})).graph])
    shape = NetworkShape(num_kinds=len(vocabulary.kinds) + 1, num_roles=len(vocabulary.roles) + 1, dim=16, num_layers=1)
    folder = tmp_path / "network"
    folder.mkdir()
    write_network(folder, GraphMatchingNetwork(shape), vocabulary, {})
    return folder


def test_a_design_that_is_none_is_refused_in_one_sentence(files, tmp_path):
    done = floe(*files, "--reward", "nope", home=tmp_path)
    assert done.returncode == 2
    assert "reward.design" in done.stderr and "Traceback" not in done.stderr
