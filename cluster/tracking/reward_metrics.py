"""Numbers of the reward workers for the record of a step."""

from __future__ import annotations

import math
import statistics
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from floe.cluster.messages import Outcome, RewardWorkerStats, Score, ScoredGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardMetrics:
    """Numbers of the groups scored since the previous record; percentiles are 0 when there were none."""

    num_scores: int
    outcomes: dict[str, int]
    scores_per_s: float  # while any worker was scoring
    busy_s: float  # worker seconds spent on groups, all workers together
    scores_per_busy_s: float
    max_waiting: int  # groups in the queue at one time
    queue_wait_p50_s: float
    queue_wait_p99_s: float
    execution_p50_s: float  # CPU seconds of a candidate that was run
    execution_p99_s: float
    cached_scores: int  # verdicts that a worker knew already
    cached_golds: int  # gold answers that a worker knew already
    folded_scores: int  # candidates whose text another of their group had too
    lost_children: int  # executor children that died or were ended
    replaced_workers: int
    unread_queries: int = 0  # that the design could not read within its limits, or whose parser failed
    terms: dict[str, float] = field(default_factory=dict)  # mean of each term of the reward, in designs with terms
    equal_terms: dict[str, float] = field(default_factory=dict)  # share of the groups in which a term is all the same


def outcomes_of(groups: Sequence[ScoredGroup]) -> dict[str, int]:
    """Return the number of candidates by outcome."""
    return dict(Counter(score.outcome.value for group in groups for score in group.scores))


def terms_of(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Return the mean of each term over the candidates that have it."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for group in groups:
        for score in group.scores:
            for name, value in (score.terms or {}).items():
                found[name].append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def equal_terms_of(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Return for each term the share of the groups with rewards in which it is all the same; it counts 0 if absent."""
    by_group = [[score.terms or {} for score in group.scores if score.reward is not None] for group in groups]
    names = dict.fromkeys(name for rows in by_group for row in rows for name in row)
    return {
        name: statistics.fmean(len({row.get(name, 0.0) for row in rows}) == 1 for rows in by_group if rows)
        for name in names
    }


class RewardMeter:
    """Collects numbers from the pool's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reset()
        self._before: list[RewardWorkerStats | None] = []

    def _reset(self) -> None:
        self._waits_s: list[float] = []
        self._executions_s: list[float] = []
        self._num_scores = 0
        self._max_waiting = 0
        self._outcomes: Counter[Outcome] = Counter()
        self._busy: list[tuple[float, float]] = []  # start and end, for each group
        self._num_lost_workers = 0

    def add(self, scores: Sequence[Score], *, submitted_s: float, started_s: float, finished_s: float) -> None:
        """Add one group's scores; the times are on one clock, and those of the groups of one call follow each other."""
        with self._lock:
            self._waits_s.append(started_s - submitted_s)
            self._busy.append((started_s, finished_s))
            self._executions_s += [score.seconds for score in scores if score.seconds > 0]
            self._num_scores += len(scores)
            self._outcomes.update(score.outcome for score in scores)

    def note_waiting(self, num_groups: int) -> None:
        with self._lock:
            self._max_waiting = max(self._max_waiting, num_groups)

    def note_lost_worker(self) -> None:
        with self._lock:
            self._num_lost_workers += 1

    def take(self, stats: Sequence[RewardWorkerStats | None]) -> RewardMetrics:
        """Return the record and start anew. `stats` are each worker's counts since its start, None where it is away."""
        with self._lock:
            busy_s = sum(until_s - since_s for since_s, until_s in self._busy)
            metrics = RewardMetrics(
                num_scores=self._num_scores,
                outcomes={outcome.value: count for outcome, count in self._outcomes.items()},
                scores_per_s=_rate(self._num_scores, covered_s(self._busy)),
                busy_s=busy_s,
                scores_per_busy_s=_rate(self._num_scores, busy_s),
                max_waiting=self._max_waiting,
                queue_wait_p50_s=_percentile(self._waits_s, 50),
                queue_wait_p99_s=_percentile(self._waits_s, 99),
                execution_p50_s=_percentile(self._executions_s, 50),
                execution_p99_s=_percentile(self._executions_s, 99),
                cached_scores=self._since(stats, "num_cached"),
                cached_golds=self._since(stats, "num_cached_golds"),
                folded_scores=self._since(stats, "num_folded"),
                lost_children=self._since(stats, "num_lost_children"),
                replaced_workers=self._num_lost_workers,
                unread_queries=self._since(stats, "num_unread"),
            )
            self._before = list(stats)
            self._reset()
            return metrics

    def _since(self, stats: Sequence[RewardWorkerStats | None], field: str) -> int:
        before = [0 if one is None else getattr(one, field) for one in self._before] or [0] * len(stats)
        now = [0 if one is None else getattr(one, field) for one in stats]
        # A worker that was replaced counts from 0 again.
        return sum(new - old if new >= old else new for new, old in zip(now, before, strict=True))


def covered_s(intervals: Sequence[tuple[float, float]]) -> float:
    """Return the seconds that at least one of the intervals covers."""
    total_s, end_s = 0.0, -math.inf
    for since_s, until_s in sorted(intervals):
        total_s += max(0.0, until_s - max(since_s, end_s))
        end_s = max(end_s, until_s)
    return total_s


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else 0.0
