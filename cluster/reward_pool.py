"""The reward workers as one: a group goes to the worker with the fewest waiting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from cluster.messages import Outcome, Score, ScoreRequest


class RewardPool:
    def __init__(self, handles: Sequence[Any], timeout_s: float) -> None:
        self._handles = list(handles)
        self._num_waiting = [0] * len(handles)
        self._timeout_s = timeout_s
        self._owner: dict[Any, tuple[int, ScoreRequest]] = {}

    def submit(self, request: ScoreRequest) -> Any:
        """Start scoring a group; the ticket is for `result`."""
        worker = min(range(len(self._handles)), key=self._num_waiting.__getitem__)
        ticket = self._handles[worker].score.remote(request)
        self._num_waiting[worker] += 1
        self._owner[ticket] = (worker, request)
        return ticket

    def result(self, ticket: Any) -> tuple[Score, ...]:
        """One score per candidate. A worker that is lost or silent makes them `infrastructure`, never a reward."""
        worker, request = self._owner.pop(ticket)
        try:
            return ray.get(ticket, timeout=self._timeout_s)
        except (RayActorError, GetTimeoutError) as fault:
            message = f"reward worker {worker}: {type(fault).__name__}"
            lost = Score(outcome=Outcome.INFRASTRUCTURE, reward=None, seconds=0.0, message=message)
            return (lost,) * len(request.candidates)
        finally:
            self._num_waiting[worker] -= 1

    def stop(self) -> None:
        for handle in self._handles:
            ray.kill(handle)
