"""Hostile texts through the reward function for TRL: each gets a reward of the design, and nothing else happens."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from floe import SqlReward
from tests.score_requests import make_database
from tests.sql_fuzz import SCRIPT, completions

GOLDS = ("SELECT a FROM t", "SELECT b, c FROM t WHERE a < 3")
BATCH = 100
SHORT, ALL = 200, 2_000
LIMIT_S = 0.5


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    databases = tmp_path / "databases"
    databases.mkdir()
    make_database(databases, "fuzz", script=SCRIPT)
    elsewhere = tmp_path / "working"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)  # where relative names of files would lead
    return databases


def rewards_of(folder: Path, texts: Sequence[str]) -> Counter[float | None]:
    """Return how often each reward was given, after a look at what the texts may not change."""
    database = folder / "fuzz" / "fuzz.sqlite"
    content, files = database.read_bytes(), sorted(folder.parent.rglob("*"))
    counts: Counter[float | None] = Counter()
    with SqlReward(folder, time_limit_s=LIMIT_S) as reward:
        function = reward.trl()
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            golds = [GOLDS[number // 8 % len(GOLDS)] for number in range(len(batch))]
            found = function(completions=batch, db_id=["fuzz"] * len(batch), gold_sql=golds)
            assert len(found) == len(batch)
            counts.update(found)
    assert database.read_bytes() == content
    assert sorted(folder.parent.rglob("*")) == files
    return counts


def test_a_sample_of_hostile_texts(folder):
    counts = rewards_of(folder, list(completions(7, SHORT)))
    assert {0.0, 0.1} <= set(counts) <= {0.0, 0.1, 1.0}


@pytest.mark.long
def test_many_hostile_texts(folder, shared_data):
    known = [case["sql"] for case in json.loads((shared_data / "hostile" / "hostile_sql.json").read_text())]
    counts = rewards_of(folder, [*known, *completions(8, ALL - len(known) - len(GOLDS)), *GOLDS])
    assert set(counts) == {0.0, 0.1, 1.0}
