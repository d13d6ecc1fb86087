"""Groups that wait for a reward worker: bounded, taken several at a time where they are short."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass

from floe.cluster.messages import Score, ScoreRequest
from floe.cluster.waits import waits

WAITING_PER_WORKER = 16  # groups that wait before `put` blocks the caller
BATCH_S = 0.1  # work per call: a call costs Ray some ms of CPU time on both sides together
MAX_BATCH = 16
OVERDUE_S = 4 * BATCH_S
NEW_SHARE = 0.5  # of the latest batch in the mean of a group's seconds


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    request: ScoreRequest
    scores: Future[tuple[Score, ...]]
    submitted_s: float


class GroupQueue:
    """Queue for as many threads as there are workers. An idle worker takes over what waits behind a slow group.

    The group is then scored twice, to the same scores, and the first ones count.
    """

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._taken: dict[int, tuple[list[Job], float]] = {}  # groups by worker, and since when
        self._group_s = BATCH_S  # running mean; it starts at one group a call
        self._is_closed = False

    def put(self, job: Job, limit_s: float) -> int:
        """Put a group into the queue; return how many groups wait now, this one included.

        Waits while the queue is full. Raises WaitTooLong when no worker gives an answer for `limit_s`.
        """
        with self._changed:
            with waits.behind("generation", "room in the queue of the reward workers", limit_s) as wait:
                while not self._changed.wait_for(
                    lambda: self._is_closed or len(self._waiting) < self._max_waiting, wait.left_s
                ):
                    if wait.left_s == 0:
                        raise wait.too_long()
            if self._is_closed:
                job.scores.cancel()  # no thread would take it
                return 0
            self._waiting.append(job)
            self._changed.notify_all()
            return len(self._waiting)

    def take(self, worker: int) -> list[Job] | None:
        """Return the worker's next groups; what it took before is done. None when the queue was closed."""
        with self._changed:
            self._taken.pop(worker, None)
            while not self._is_closed:
                jobs = self._next() or self._overdue()
                if jobs:
                    self._taken[worker] = jobs, time.monotonic()
                    self._changed.notify_all()
                    return jobs
                is_any_behind = any(len(jobs) > 1 for jobs, _ in self._taken.values())
                self._changed.wait(OVERDUE_S if is_any_behind else None)
            return None

    def note_batch(self, num_groups: int, took_s: float) -> None:
        with self._changed:
            self._group_s += NEW_SHARE * (took_s / num_groups - self._group_s)

    def close(self) -> list[Job]:
        """End every `take`; return the groups that nobody took."""
        with self._changed:
            self._is_closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            return left

    @property
    def _max_waiting(self) -> int:
        return WAITING_PER_WORKER * self._num_workers

    def _next(self) -> list[Job]:
        fair_share = -(-len(self._waiting) // self._num_workers)
        num_groups = max(1, min(fair_share, MAX_BATCH, int(BATCH_S / max(self._group_s, 1e-6))))
        return [self._waiting.popleft() for _ in range(min(num_groups, len(self._waiting)))]

    def _overdue(self) -> list[Job]:
        now = time.monotonic()
        for jobs, since in self._taken.values():
            if len(jobs) > 1 and now - since > OVERDUE_S:
                return [jobs.pop()]
        return []
