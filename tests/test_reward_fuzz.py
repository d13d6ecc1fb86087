"""A seeded fuzz of extraction, parsers, designs and executor: a model's text can only cause faults of its own."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from floe.cluster.messages import Candidate, Outcome, ScoreRequest
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.sandbox.executor_settings import HARD_STOP_GRACE_S
from floe.reward_service.scorer import Scorer
from floe.reward_service.sql_text.extraction import extract_sql
from tests.score_requests import make_database
from tests.sql_fuzz import SCRIPT, completions, texts

GOLD = "SELECT a FROM t"
GROUP = 50
LIMIT_S = 0.5
SHORT, LONG, ALL = 500, 4_000, 20_000
DESIGNS = {
    "arctic": {},
    "sql_r1": {"design": "sql_r1"},
    "reasoning_sql": {"design": "reasoning_sql", "reasoning_judge_weight": 0},
    "graph_reward": {"design": "graph_reward", "graph_outcome_weight": 0, "graph_stepwise_weight": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    databases_dir = tmp_path_factory.mktemp("databases")
    make_database(databases_dir, "fuzz", script=SCRIPT)
    return databases_dir


def faults(scorer: Scorer, replies: list[str]) -> tuple[Counter[Outcome], list[str]]:
    """Return outcomes and replies that ended as no candidate's may, or that took more than the limit."""
    counts: Counter[Outcome] = Counter()
    wrong = []
    for start in range(0, len(replies), GROUP):
        group = replies[start : start + GROUP]
        request = ScoreRequest(
            question_id="q",
            database_id="fuzz",
            gold_sql=(GOLD,),
            candidates=tuple(Candidate(completion=text) for text in group),
        )
        for text, score in zip(group, scorer.score(request), strict=True):
            counts[score.outcome] += 1
            is_late = score.seconds >= LIMIT_S + HARD_STOP_GRACE_S  # the process had to be ended
            if not score.outcome.carries_reward or score.reward is None or is_late:
                wrong.append(f"{score.outcome} {score.seconds:.2f} s {score.message}: {text[:200]!r}")
    return counts, wrong


def parse_share(num_texts: int) -> float:
    """Return the share of the bare texts that SQLite compiles."""
    num_parsed = 0
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCRIPT)
        for sql in texts(1, num_texts):
            try:
                connection.execute(f"EXPLAIN {sql}")
            except (sqlite3.Error, sqlite3.Warning, UnicodeError, ValueError) as error:
                num_parsed += "bindings" in str(error)
            else:
                num_parsed += 1
    return num_parsed / num_texts


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize(
    "num_texts",
    [
        pytest.param(SHORT, id="sample"),
        pytest.param(LONG, id="more", marks=pytest.mark.long),
        pytest.param(ALL, id="all", marks=pytest.mark.soak),
    ],
)
def test_no_text_is_anyone_elses_fault(folder, design, num_texts, capsys):
    section = RewardSection.model_validate({**DESIGNS[design], "time_limit_s": LIMIT_S, "design_time_limit_s": LIMIT_S})
    started_s = time.monotonic()
    with closing(Scorer(folder, section)) as scorer:
        counts, wrong = faults(scorer, list(completions(1, num_texts)))
        num_unread = scorer.stats().num_unread
    shown = ", ".join(f"{outcome} {count}" for outcome, count in counts.most_common())
    with capsys.disabled():
        print(f"\n{design}: {num_texts} texts in {time.monotonic() - started_s:.0f} s, {num_unread} unread; {shown}")
    assert wrong == []


def test_half_of_the_texts_are_queries():
    assert parse_share(2000) >= 0.5


def test_extraction_raises_for_none_of_them():
    for text in completions(2, 5000):
        extract_sql(text)


PLANTED = {
    "a placeholder is infrastructure": (
        "arctic",
        "import floe.reward_service.verdict as v; v._PLACEHOLDER_PHRASES = ()",
    ),
    "a parser's fault escapes": (
        "reasoning_sql",
        "import floe.reward_service.reading.query_reader as q; q._read = lambda read, sql: {}[sql]",
    ),
    "a statement runs for ever": (
        "arctic",
        "import floe.reward_service.sandbox.guard as g; g.CpuDeadline.has_passed = lambda self: False",
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_fault_is_found(folder, planted, tmp_path, monkeypatch):
    """Start the service's children with the fault in them."""
    design, program = PLANTED[planted]
    (tmp_path / "sitecustomize.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    section = RewardSection.model_validate({**DESIGNS[design], "time_limit_s": LIMIT_S, "design_time_limit_s": LIMIT_S})
    endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"
    with closing(Scorer(folder, section)) as scorer:
        assert faults(scorer, [endless, *completions(1, SHORT)])[1]


def test_a_planted_fault_of_extraction_is_found(folder, monkeypatch):
    def extract(completion: str) -> str:
        return completion.split("~~~")[1]

    monkeypatch.setattr("floe.reward_service.sql_text.own_extraction.extract_sql", extract)
    with closing(Scorer(folder, RewardSection())) as scorer, pytest.raises(IndexError):
        faults(scorer, list(completions(1, SHORT)))
