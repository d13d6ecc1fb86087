"""What the reward workers did, as numbers for the record of a step."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluster.messages import Outcome, RewardWorkerStats, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardMetrics:
    """Of the groups scored since the record before; percentiles are 0 when there were none."""

    num_scores: int
    outcomes: dict[str, int]
    busy_s: float  # worker seconds spent on groups, all workers together
    scores_per_busy_s: float
    queue_wait_p50_s: float
    queue_wait_p99_s: float
    execution_p50_s: float  # CPU seconds of a candidate that was run
    execution_p99_s: float
    cached_scores: int  # verdicts that a worker knew already
    folded_scores: int  # candidates whose text another of their group had too
    lost_children: int  # executor children that died or were ended
    replaced_workers: int


class RewardMeter:
    """Collects from the pool's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reset()
        self._before: list[RewardWorkerStats | None] = []

    def _reset(self) -> None:
        self._waits_s: list[float] = []
        self._executions_s: list[float] = []
        self._num_scores = 0
        self._outcomes: Counter[Outcome] = Counter()
        self._busy_s = 0.0
        self._num_lost_workers = 0

    def add(self, scores: Sequence[Score], *, waited_s: float, took_s: float) -> None:
        with self._lock:
            self._waits_s.append(waited_s)
            self._busy_s += took_s
            self._executions_s += [score.seconds for score in scores if score.seconds > 0]
            self._num_scores += len(scores)
            self._outcomes.update(score.outcome for score in scores)

    def note_lost_worker(self) -> None:
        with self._lock:
            self._num_lost_workers += 1

    def take(self, stats: Sequence[RewardWorkerStats | None]) -> RewardMetrics:
        """The record, and a fresh start. `stats` are each worker's counts since it started, None where it is away."""
        with self._lock:
            metrics = RewardMetrics(
                num_scores=self._num_scores,
                outcomes={outcome.value: count for outcome, count in self._outcomes.items()},
                busy_s=self._busy_s,
                scores_per_busy_s=self._num_scores / self._busy_s if self._busy_s > 0 else 0.0,
                queue_wait_p50_s=_percentile(self._waits_s, 50),
                queue_wait_p99_s=_percentile(self._waits_s, 99),
                execution_p50_s=_percentile(self._executions_s, 50),
                execution_p99_s=_percentile(self._executions_s, 99),
                cached_scores=self._since(stats, "num_cached"),
                folded_scores=self._since(stats, "num_folded"),
                lost_children=self._since(stats, "num_lost_children"),
                replaced_workers=self._num_lost_workers,
            )
            self._before = list(stats)
            self._reset()
            return metrics

    def _since(self, stats: Sequence[RewardWorkerStats | None], field: str) -> int:
        before = [0 if one is None else getattr(one, field) for one in self._before] or [0] * len(stats)
        now = [0 if one is None else getattr(one, field) for one in stats]
        # A worker that was replaced counts from 0 again.
        return sum(new - old if new >= old else new for new, old in zip(now, before, strict=True))


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else 0.0
