"""Measures the most memory that a run's processes hold at one time, by role."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field

import psutil

ROLES = {"RolloutActor": "rollout engine", "LearnerActor": "learner", "Scorer": "reward workers"}  # by Ray's titles
DRIVER, REST = "driver", "Ray and the rest"


@dataclass(slots=True)
class Peak:
    """Proportional set sizes: a page that several processes share is counted once, also in the object store."""

    whole_bytes: int = 0
    by_role_bytes: dict[str, int] = field(default_factory=dict)  # each role's own most

    def add(self, sample: dict[str, int]) -> None:
        self.whole_bytes = max(self.whole_bytes, sum(sample.values()))
        for role, num_bytes in sample.items():
            self.by_role_bytes[role] = max(self.by_role_bytes.get(role, 0), num_bytes)


class PeakWatch:
    """Thread that samples a process and its descendants, and ends them when they pass the limit."""

    def __init__(self, pid: int, limit_bytes: int, every_s: float = 0.5) -> None:
        self.peak = Peak()
        self.has_passed_limit = False
        self._root = psutil.Process(pid)
        self._limit_bytes = limit_bytes
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peak-watch", daemon=True)
        self._thread.start()

    def stop(self) -> Peak:
        self._stopped.set()
        self._thread.join()
        return self.peak

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            self.peak.add(sample(self._root))
            if self.peak.whole_bytes > self._limit_bytes:
                self.has_passed_limit = True
                for process in (self._root, *self._root.children(recursive=True)):
                    process.kill()
                return


def sample(root: psutil.Process) -> dict[str, int]:
    """Return the present bytes by role."""
    found: dict[str, int] = defaultdict(int)
    try:
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return {}
    for process in family:
        try:
            found[_role(process, root.pid)] += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return dict(found)


def _role(process: psutil.Process, driver_pid: int) -> str:
    if process.pid == driver_pid:
        return DRIVER
    title = " ".join(process.cmdline())
    return next((role for name, role in ROLES.items() if title.startswith("ray::") and name in title), REST)
