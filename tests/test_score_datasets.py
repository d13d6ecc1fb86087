"""`floe score` on Spider and BIRD: every gold query that is known to run matches itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from floe.cluster.operations.score import score
from floe.configs.schema import RewardSection

NUM_SPIDER = 200
MAX_SECONDS = 10.0  # CPU time of the candidates


def spider_questions(folder: Path) -> list[tuple[int, str]]:
    """Index and gold of those among the first of Spider's dev split that were verified."""
    status = json.loads((folder / "verification" / "dev.json").read_text())["status"]
    verified = {entry["index"] for entry in status if entry["status"] == "ok"}
    questions = json.loads((folder / "dev.json").read_text())[:NUM_SPIDER]
    return [(index, question["query"]) for index, question in enumerate(questions) if index in verified]


def bird_questions(folder: Path) -> list[tuple[int, str]]:
    """Id and gold of BIRD's dev questions that have a database; all of them were verified."""
    return [
        (question["question_id"], question["SQL"])
        for question in json.loads((folder / "dev.json").read_text())
        if (folder / "databases" / question["db_id"] / f"{question['db_id']}.sqlite").is_file()
    ]


@pytest.mark.parametrize(
    ("name", "pick", "num_at_least"), [("spider", spider_questions, 150), ("bird", bird_questions, 247)]
)
def test_a_gold_matches_itself(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, pick: Any, num_at_least: int
) -> None:
    folder = shared_data / name
    golds = pick(folder)
    assert len(golds) >= num_at_least
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text("".join(json.dumps({"question_id": one, "sql": sql}) + "\n" for one, sql in golds))
    assert score(folder / "dev.json", folder / "databases", predictions, RewardSection(), as_json=True) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [result["question_id"] for result in results] == [question_id for question_id, _ in golds]
    assert not [result for result in results if result["outcome"] != "match"]
    assert sum(result["seconds"] for result in results) < MAX_SECONDS


def test_of_bird_all_golds_with_a_database_match_and_the_rest_carry_no_reward(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data / "bird"
    questions = json.loads((folder / "mini_dev_sqlite.json").read_text())
    present = {path.parent.name for path in (folder / "databases").glob("*/*.sqlite")}
    predictions = tmp_path / "predictions.jsonl"
    lines = [json.dumps({"question_id": one["question_id"], "sql": one["SQL"]}) for one in questions]
    predictions.write_text("\n".join(lines))
    arguments = (folder / "mini_dev_sqlite.json", folder / "databases", predictions, RewardSection(), True)
    assert score(*arguments, allow_missing_databases=True) == 3
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = ["match" if one["db_id"] in present else "infrastructure" for one in questions]
    assert [result["outcome"] for result in results] == expected and expected.count("match") == 100
    assert {result["reward"] for result in results} == {1.0, None}
