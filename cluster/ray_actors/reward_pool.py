"""The reward workers as one: a bounded queue that every idle worker takes from, and the handling of lost workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from floe.cluster.messages import Outcome, RewardWorkerStats, Score, ScoreRequest
from floe.cluster.ray_actors.reward_queue import MAX_BATCH, GroupQueue, Job
from floe.cluster.tracking.reward_metrics import RewardMeter, RewardMetrics
from floe.cluster.waits import waits

MAX_ATTEMPTS = 3  # attempts at a group whose worker was lost
# factor from one limit to the next for a group whose worker gave no answer: the machine may be that slow
PATIENCE = 4.0
RESTART_LIMIT_S = 300.0  # a worker's start on a machine that is busy with other work
RESTART_POLL_S = 0.2
BUSY_FACTOR = 2.0  # seconds per CPU second of a statement


class RewardPool:
    """One thread per worker: no worker idles while a group waits; a slow one delays others for `OVERDUE_S` at most.

    Ray restarts a worker that died (`max_restarts`) or was ended for being stuck, and its group is scored again.
    """

    def __init__(
        self,
        handles: Sequence[Any],
        stuck_after_s: float,
        time_limit_s: float,
        judging_limit_s: Callable[[int], float] = lambda num_candidates: 0.0,
        restart_limit_s: float = RESTART_LIMIT_S,
    ) -> None:
        """Start the threads. A worker is stuck `stuck_after_s` after the time that its candidates' CPU limit allows.

        `time_limit_s` is that limit. `judging_limit_s` is what a group of so many candidates may take in addition to
        being run, in seconds. A lost worker has `restart_limit_s` to be back.
        """
        self._restart_limit_s = restart_limit_s
        self._handles = list(handles)
        self._judging_limit_s = judging_limit_s
        self._stuck_after_s = stuck_after_s
        self._time_limit_s = time_limit_s
        self._longest_limit_s = stuck_after_s
        self._queue = GroupQueue(len(self._handles))
        self._meter = RewardMeter()
        self._threads = [
            threading.Thread(target=self._serve, args=(number, handle), name=f"reward-{number}", daemon=True)
            for number, handle in enumerate(self._handles)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: ScoreRequest) -> Future[tuple[Score, ...]]:
        """Start scoring a group; return the ticket for `result`. Waits while the queue is full. Raises WaitTooLong."""
        job = Job(request, Future(), time.perf_counter())
        self._longest_limit_s = max(self._longest_limit_s, self._limit_s([request] * MAX_BATCH))
        self._meter.note_waiting(self._queue.put(job, self._limit_behind_s))
        return job.scores

    def result(self, ticket: Future[tuple[Score, ...]]) -> tuple[Score, ...]:
        """Return one score per candidate; `infrastructure`, never a reward, where workers are lost again and again.

        Raises WaitTooLong.
        """
        with waits.behind("driver", "the scores of a group", self._limit_behind_s) as wait:
            while not futures.wait([ticket], timeout=wait.left_s).done:
                if wait.left_s == 0:
                    raise wait.too_long()
        return ticket.result()

    def warm(self, requests: Sequence[ScoreRequest]) -> None:
        """Have every worker score them, so that each knows their golds. Raises RayError for a worker that is lost."""
        limit_s = sum(self._limit_s([request]) for request in requests)
        with waits.on("driver", "the reward workers to know their golds", limit_s):
            ray.get([handle.score_all.remote(requests) for handle in self._handles], timeout=limit_s)

    def metrics(self) -> RewardMetrics:
        """Return the numbers of what was scored since the last call.

        Call it when nothing is being scored, because it asks the workers.
        """
        stats: list[RewardWorkerStats | None] = []
        for number, handle in enumerate(self._handles):
            try:
                with waits.on("driver", f"the counts of reward worker {number}", self._stuck_after_s):
                    stats.append(ray.get(handle.stats.remote(), timeout=self._stuck_after_s))
            except GetTimeoutError as fault:
                self._replace(number, handle, fault)
                stats.append(None)
            except RayActorError:
                stats.append(None)  # it is being replaced, which the meter has counted
        return self._meter.take(stats)

    def stop(self) -> None:
        """End the workers; groups that wait are given up."""
        for handle in self._handles:
            ray.kill(handle)
        self.leave()

    def leave(self) -> None:
        """End the threads; groups that wait are given up."""
        for job in self._queue.close():
            job.scores.cancel()

    def _serve(self, number: int, handle: Any) -> None:
        while (taken := self._queue.take(number)) is not None:
            jobs = tuple(taken)  # the queue may give the last ones to another worker as well
            started_s = time.perf_counter()
            try:
                outcomes = list(self._score_all(number, handle, [job.request for job in jobs]))
            except BaseException as fault:  # a fault of this program: it must not leave anyone waiting
                outcomes = [fault] * len(jobs)
            took_s = time.perf_counter() - started_s
            self._queue.note_batch(len(jobs), took_s)
            each_s = took_s / len(jobs)
            for place, (job, outcome) in enumerate(zip(jobs, outcomes, strict=True)):
                if job.scores.done():
                    continue
                if not isinstance(outcome, BaseException):
                    since_s = started_s + place * each_s
                    self._meter.add(
                        outcome, submitted_s=job.submitted_s, started_s=since_s, finished_s=since_s + each_s
                    )
                with suppress(InvalidStateError):  # another worker was faster, or the pool was stopped
                    if isinstance(outcome, BaseException):
                        job.scores.set_exception(outcome)  # handed on to who waits for the group
                    else:
                        job.scores.set_result(outcome)

    def _score_all(
        self, number: int, handle: Any, requests: Sequence[ScoreRequest]
    ) -> Iterator[tuple[Score, ...] | BaseException]:
        """Return each request's scores, or the fault to raise for it."""
        if len(requests) > 1:
            try:
                what = f"{len(requests)} groups, the first of question {requests[0].question_id}"
                yield from self._ask(number, handle.score_all.remote(requests), what, self._limit_s(requests))
                return
            except RayError as fault:  # whichever is at fault, each is then scored alone
                if not isinstance(fault, RayTaskError):
                    self._replace(number, handle, fault)
        for request in requests:
            try:
                yield self._score(number, handle, request)
            except BaseException as fault:
                yield fault

    def _score(self, number: int, handle: Any, request: ScoreRequest) -> tuple[Score, ...]:
        cause = ""
        limit_s = self._limit_s([request])
        num_left = MAX_ATTEMPTS
        while num_left > 0:
            try:
                what = f"a group of question {request.question_id}"
                scores: tuple[Score, ...] = self._ask(number, handle.score.remote(request), what, limit_s)
                return scores
            except RayTaskError:
                raise  # a fault of the program, not the loss of a process
            except RayError as fault:
                if isinstance(fault, GetTimeoutError):
                    cause = f"it gave no answer in {limit_s:g} s"
                    num_left -= 2  # each try costs the whole limit
                    limit_s *= PATIENCE
                else:
                    cause = f"it died ({type(fault).__name__})"
                    num_left -= 1
                if not self._replace(number, handle, fault):
                    break
        message = f"reward worker {number} was lost on this group again and again: {cause}"
        lost = Score(outcome=Outcome.INFRASTRUCTURE, reward=None, seconds=0.0, message=message)
        return (lost,) * len(request.candidates)

    def _ask(self, number: int, ref: Any, what: str, limit_s: float) -> Any:
        with waits.on("driver", f"reward worker {number} to score {what}", limit_s):
            return ray.get(ref, timeout=limit_s)

    def _limit_s(self, requests: Sequence[ScoreRequest]) -> float:
        """Return a call's limit: several groups are sent together only where they are expected to be short."""
        num_statements = max(len(request.candidates) + len(request.gold_sql) for request in requests)
        # The groups of a call are judged one after the other.
        judging_s = sum(self._judging_limit_s(len(request.candidates)) for request in requests)
        return self._stuck_after_s + BUSY_FACTOR * self._time_limit_s * num_statements + judging_s

    @property
    def _limit_behind_s(self) -> float:
        """Limit of a wait for the workers' threads: longer than each wait of theirs."""
        return PATIENCE * self._longest_limit_s + self._restart_limit_s

    def _replace(self, number: int, handle: Any, fault: RayError) -> bool:
        """Replace the lost worker; return whether it is back. One that only gave no answer is ended first."""
        self._meter.note_lost_worker()
        if isinstance(fault, GetTimeoutError):
            ray.kill(handle, no_restart=False)
        with waits.on("driver", f"reward worker {number} to be back", self._restart_limit_s):
            return _is_back(handle, self._restart_limit_s)


def _is_back(handle: Any, limit_s: float) -> bool:
    """Wait for the worker that Ray restarts: a call made meanwhile would fail at once."""
    deadline_s = time.monotonic() + limit_s
    while (left_s := deadline_s - time.monotonic()) > 0:
        try:
            is_back: bool = ray.get(handle.ping.remote(), timeout=left_s)
            return is_back
        except GetTimeoutError:
            return False
        except RayError:
            time.sleep(RESTART_POLL_S)
    return False
