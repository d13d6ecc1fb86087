"""Measures the reward service's guarantees of time: how late a stop is, and how soon scoring continues."""

from __future__ import annotations

import os
import signal
import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil

from floe.cluster.bench.reward.reward_ways import score_request
from floe.cluster.messages import Outcome
from floe.cluster.ray_actors.reward_pool import RewardPool
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.comparison.comparison import Answer, answers_match
from floe.reward_service.sandbox.executor_settings import HARD_STOP_GRACE_S
from floe.reward_service.scorer import Scorer

GOLD = "SELECT 1"
LIMIT_S = 0.5
NUM_KILLS = 20
NUM_COLUMNS = 100
ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r) SELECT count(*) FROM r"
# A single opcode that works for many times the limit, so that no progress handler is called.
ONE_OPCODE = "SELECT length(ltrim(printf('%.*c',900000,'k'),printf('%.*c',80000,'m')||'k'))"


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: float
    unit: str
    at_most: float

    @property
    def verdict(self) -> str:
        return "kept" if self.value <= self.at_most else "not kept"


def guarantee_figures(databases_dir: Path, pool: RewardPool) -> list[Figure]:
    """Return the figures, measured on an idle machine. `pool` loses its workers' processes and gets new ones."""
    with closing(Scorer(databases_dir, RewardSection(time_limit_s=LIMIT_S))) as scorer:
        scorer.score(score_request(GOLD, [GOLD]))
        hold_s = max(_seconds(scorer, sql, Outcome.TIMEOUT) for sql in (ENDLESS, ONE_OPCODE))
        recoveries_s = [_recovery_s(scorer) for _ in range(NUM_KILLS)]
    return [
        Figure("longest hold over the limit", hold_s - LIMIT_S, "s", HARD_STOP_GRACE_S + 0.1),
        Figure("next score after a child was killed", statistics.median(recoveries_s) * 1000, "ms", 50),
        Figure("next score after every worker was killed", _pool_recovery_s(pool), "s", 5),
        Figure(f"matching {NUM_COLUMNS} equal columns", _matching_s() * 1000, "ms", 50),
    ]


def _seconds(scorer: Scorer, sql: str, expected: Outcome) -> float:
    started_s = time.perf_counter()
    scores = scorer.score(score_request(GOLD, [sql]))
    took_s = time.perf_counter() - started_s
    _expect(scores[0].outcome is expected, f"{sql} ended as {scores[0].outcome}: {scores[0].message}")
    return took_s


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise RuntimeError(f"the figure would be of something else: {otherwise}")


def _recovery_s(scorer: Scorer) -> float:
    os.kill(scorer.executor_pid, signal.SIGKILL)
    return _seconds(scorer, GOLD, Outcome.MATCH)


def _pool_recovery_s(pool: RewardPool) -> float:
    workers = [process for process in psutil.Process().children(recursive=True) if _is_worker(process)]
    _expect(bool(workers), "no reward worker was found to kill")
    for process in workers:
        process.kill()
    started_s = time.perf_counter()
    score = pool.result(pool.submit(score_request(GOLD, [GOLD])))[0]
    took_s = time.perf_counter() - started_s
    _expect(score.outcome is Outcome.MATCH, f"after the kill {GOLD} ended as {score.outcome}: {score.message}")
    return took_s


def _is_worker(process: psutil.Process) -> bool:
    try:
        return process.name().startswith("ray::Scorer")
    except psutil.NoSuchProcess:
        return False


def _matching_s() -> float:
    rows = [(number,) * NUM_COLUMNS for number in range(10)]
    gold, prediction = Answer(rows, NUM_COLUMNS), Answer(list(reversed(rows)), NUM_COLUMNS)
    started_s = time.perf_counter()
    is_match = answers_match("spider", gold, prediction)
    took_s = time.perf_counter() - started_s
    _expect(is_match, "equal columns did not match")
    return took_s
