"""Waits of the driver: who waits, for what, since when and for how long at most.

Pure bookkeeping. The code that waits takes its seconds from `Wait.left_s` and raises `Wait.too_long()` when they are
used up; `cluster/training/run_watch.py` shows the waits to the person who watches.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from floe.configs.errors import LostError

LINE_EVERY_S = 60.0
REMEDY = "see Ray's logs for what holds it up, or raise cluster.step_timeout_s"


class WaitTooLong(LostError):
    """A wait of the driver passed its limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitNow:
    """A wait that has not ended."""

    owner: str
    what: str
    waited_s: float
    limit_s: float


class Wait:
    """One wait; `Waits.on` and `Waits.behind` make it."""

    def __init__(self, owner: str, what: str, limit_s: float, remedy: str, waited_s: Callable[[], float]) -> None:
        self.owner = owner
        self.what = what
        self.limit_s = limit_s
        self._remedy = remedy
        self._waited_s = waited_s  # as counted against the limit

    @property
    def left_s(self) -> float:
        """Seconds until the limit, never negative."""
        return max(0.0, self.limit_s - self._waited_s())

    def too_long(self) -> WaitTooLong:
        return WaitTooLong(
            f"The {self.owner} waited {self.limit_s:g} s for {self.what}, which is the limit: {self._remedy}."
        )


class Waits:
    """The waits of one process, in all its threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._keys = count()
        self._current: dict[int, tuple[Wait, float]] = {}  # with its start
        self._num_lines: dict[int, int] = {}
        self._last_end_s = clock()

    @contextmanager
    def on(self, owner: str, what: str, limit_s: float, remedy: str = REMEDY) -> Iterator[Wait]:
        """Register a wait for what another process has to do. Reads as a sentence: the `owner` waits for `what`."""
        since_s = self._clock()
        wait = Wait(owner, what, limit_s, remedy, lambda: self._clock() - since_s)
        with self._listed(wait, since_s):
            try:
                yield wait
            finally:
                self._last_end_s = self._clock()

    @contextmanager
    def behind(self, owner: str, what: str, limit_s: float, remedy: str = REMEDY) -> Iterator[Wait]:
        """Register a wait for what another thread of the driver has to do, which may itself be waiting.

        It continues however long that takes, as long as waits end there: the limit is on the time without.
        """
        since_s = self._clock()
        wait = Wait(owner, what, limit_s, remedy, lambda: self._clock() - max(since_s, self._last_end_s))
        with self._listed(wait, since_s):
            yield wait

    def now(self) -> tuple[WaitNow, ...]:
        """Return the waits, the longest first."""
        now_s = self._clock()
        with self._lock:
            current = list(self._current.values())
        return tuple(
            WaitNow(owner=wait.owner, what=wait.what, waited_s=now_s - since_s, limit_s=wait.limit_s)
            for wait, since_s in sorted(current, key=lambda one: one[1])
        )

    def lines_due(self) -> list[str]:
        """Return a line for each wait that has lasted a further full minute since the last call."""
        now_s = self._clock()
        lines = []
        with self._lock:
            for key, (wait, since_s) in self._current.items():
                num_minutes = int((now_s - since_s) // LINE_EVERY_S)
                if num_minutes > self._num_lines.get(key, 0):
                    self._num_lines[key] = num_minutes
                    limit_min = wait.limit_s / LINE_EVERY_S
                    lines.append(
                        f"{wait.owner} has waited {num_minutes} min for {wait.what} (limit {limit_min:.3g} min)"
                    )
        return lines

    @contextmanager
    def _listed(self, wait: Wait, since_s: float) -> Iterator[None]:
        with self._lock:
            key = next(self._keys)
            self._current[key] = wait, since_s
        try:
            yield
        finally:
            with self._lock:
                del self._current[key]
                self._num_lines.pop(key, None)


waits = Waits()


def acquire(lock: threading.Lock, wait: Wait) -> None:
    """Acquire the lock. Raises WaitTooLong when it isn't free in time."""
    while not lock.acquire(timeout=wait.left_s):
        if wait.left_s == 0:
            raise wait.too_long()
