"""How long the phases of a step take."""

from __future__ import annotations

import time
from collections import defaultdict


class StepClock:
    """Starts when it is made."""

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
