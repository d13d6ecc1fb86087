"""Hostile SQL is contained: its class is right, nothing is written, and its neighbours keep their scores."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from floe.cluster.messages import Candidate, Outcome, ScoreRequest
from floe.configs.schema import RewardSection
from floe.reward_service.sandbox.executor_settings import HARD_STOP_GRACE_S
from floe.reward_service.scorer import Scorer

HOSTILE_PATH = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "hostile" / "hostile_sql.json"
CASES: list[dict[str, Any]] = json.loads(HOSTILE_PATH.read_text()) if HOSTILE_PATH.exists() else []
ERRORS = {Outcome.REJECTED, Outcome.SYNTAX_ERROR, Outcome.RUNTIME_ERROR, Outcome.TOO_LARGE}
TIMEOUTS = {Outcome.TIMEOUT, Outcome.KILLED}
CLASSES = {"error": ERRORS, "timeout": TIMEOUTS, "ok": {Outcome.MATCH, Outcome.MISMATCH}}
GOOD_PAIRS = ("SELECT sum(total) FROM orders", "SELECT 30 WHERE 1")
SETTINGS = RewardSection(time_limit_s=1.0)
PATIENT = RewardSection(time_limit_s=60.0)
FILES_OUTSIDE = (Path("/tmp/dev_attach.db"), Path("/tmp/dev_copy.db"))

if not CASES:
    pytest.skip("../shared/data has no hostile/hostile_sql.json", allow_module_level=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("databases") / "shop" / "shop.sqlite"
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, total); INSERT INTO orders(total) VALUES (10),(20);"
        "ANALYZE;"
    )
    connection.close()
    return path.parent.parent


@pytest.fixture(scope="module")
def scorers(folder: Path) -> Iterator[dict[bool, Scorer]]:
    """Return scorers by whether a time-out may be the end: what another limit ends has enough time on a slow machine
    too.
    """
    found = {True: Scorer(folder, SETTINGS), False: Scorer(folder, PATIENT)}
    yield found
    for scorer in found.values():
        scorer.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_contained(
    case: dict[str, Any], folder: Path, scorers: dict[bool, Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    path = folder / "shop" / "shop.sqlite"
    before = path.read_bytes()
    files = sorted(folder.rglob("*"))
    outside = [each.exists() for each in FILES_OUTSIDE]
    # A unique comment keeps a known verdict from answering for the pairs around it.
    gold, same = (f"{sql} -- {case['id']}" for sql in GOOD_PAIRS)
    request = ScoreRequest(
        question_id=case["id"],
        database_id="shop",
        gold_sql=(gold,),
        candidates=tuple(Candidate(sql=sql) for sql in (same, case["sql"], gold)),
    )
    expected = CLASSES[case["expect"]] | (ERRORS | TIMEOUTS if "(error or timeout)" in case["why"] else set())
    may_time_out = bool(expected & TIMEOUTS)
    first, hostile, last = scorers[may_time_out].score(request)
    assert hostile.outcome in expected, hostile
    assert hostile.reward == (0.1 if case["expect"] == "ok" else 0.0)
    assert first.outcome is last.outcome is Outcome.MATCH
    # Seconds of CPU time, which other programs do not stretch: the limit, and the grace after which the process is
    # ended.
    assert not may_time_out or hostile.seconds <= SETTINGS.time_limit_s + HARD_STOP_GRACE_S
    assert path.read_bytes() == before
    assert sorted(folder.rglob("*")) == files
    assert [each.exists() for each in FILES_OUTSIDE] == outside
