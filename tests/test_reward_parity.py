"""`bird` gives BIRD's published verdict on every pair where no documented deviation applies."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from floe.cluster.messages import Candidate, Outcome, ScoreRequest
from floe.configs.schema import RewardSection
from floe.reward_service.scorer import Scorer

PAIRS_PATH = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "verdicts" / "pairs.json"
# Deviations on purpose: no statement, EXPLAIN, bad UTF-8, the clock; every attack is left out by its name.
DEVIATING = {"empty_sql", "only_comment", "explain", "utf8_bad", "utf8_lossy", "now", "random", "replace_fn_gold_copy"}
EXPECTED_OF_DEVIATING = {
    "empty_sql": Outcome.REJECTED,
    "only_comment": Outcome.REJECTED,
    "explain": Outcome.REJECTED,
    "replace_fn_gold_copy": Outcome.REJECTED,
    "utf8_bad": Outcome.MATCH,
    "utf8_lossy": Outcome.MISMATCH,
}


@pytest.mark.skipif(not PAIRS_PATH.exists(), reason="../shared/data has no verdicts/pairs.json")
def test_bird_verdicts(tmp_path: Path) -> None:
    data = json.loads(PAIRS_PATH.read_text())
    path = tmp_path / "emp" / "emp.sqlite"
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.executescript(data["fixture_sql"])
    connection.close()
    before = path.read_bytes()
    scorer = Scorer(tmp_path, RewardSection())
    differing, num_compared = {}, 0
    for pair in data["pairs"]:
        request = ScoreRequest(
            question_id=pair["id"],
            database_id="emp",
            gold_sql=(pair["gold"],),
            candidates=(Candidate(sql=pair["prediction"]),),
        )
        outcome = scorer.score(request)[0].outcome
        if pair["id"].startswith("attack_"):
            right = outcome is Outcome.REJECTED
        elif pair["id"] in DEVIATING:
            right = outcome is EXPECTED_OF_DEVIATING.get(pair["id"], outcome)
        else:
            num_compared += 1
            right = (outcome is Outcome.MATCH) == (pair["verdicts"]["bird"] == "1")
        if not right:
            differing[pair["id"]] = outcome
    scorer.close()
    assert not differing
    assert num_compared > 40
    assert path.read_bytes() == before
