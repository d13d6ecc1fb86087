"""Measures how long the phases of a step take."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass

from floe.cluster.loop.group_collection import Collected


class StepClock:
    """Clock that starts when it is made."""

    def __init__(self) -> None:
        self.laps_s: dict[str, float] = defaultdict(float)
        self._start_s = self._lap_start_s = time.perf_counter()

    def lap(self, name: str = "") -> None:
        """Count the time since the last lap to the phase `name`, or to none."""
        now_s = time.perf_counter()
        if name:
            self.laps_s[name] += now_s - self._lap_start_s
        self._lap_start_s = now_s

    @property
    def whole_s(self) -> float:
        return time.perf_counter() - self._start_s

    def timings(self, taken: Collected) -> StepTimings:
        """Return the times of the step that took these groups."""
        return StepTimings(
            rollout_s=taken.rollout_s,
            reward_s=taken.reward_s,
            learner_wait_s=taken.learner_waited_s,
            rollouts_wait_s=taken.rollouts_waited_s,
            step_s=self.whole_s,
            **self.laps_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimings:
    """Seconds of a step's phases; they overlap, so they don't add up to `step_s`.

    The learner waits for groups, the rollout actors for an adapter that is not too old, or for their turn.
    """

    rollout_s: float
    reward_s: float
    learn_s: float
    sync_s: float
    handover_s: float  # of a device that engine and learner share
    step_s: float
    learner_wait_s: float
    rollouts_wait_s: float
