"""Samples how much memory and disk a run holds while it runs."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

ROLES = ("RolloutActor", "LearnerActor", "Scorer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Medians of the second and of the last sixth of the samples: the first sixth warms up."""

    early_bytes: float
    late_bytes: float

    @property
    def ratio(self) -> float:
        return self.late_bytes / self.early_bytes if self.early_bytes else 1.0


class Footprint:
    """Thread that samples resident memory by role, the object store's files and the run folder, each second or so."""

    def __init__(self, driver_pid: int, run_dir: Path, every_s: float = 1.0) -> None:
        self._driver = psutil.Process(driver_pid)
        self._run_dir = run_dir
        self._every_s = every_s
        self._samples: dict[str, list[int]] = defaultdict(list)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="footprint", daemon=True)
        self._thread.start()

    def stop(self) -> Mapping[str, Growth]:
        self._stopped.set()
        self._thread.join()
        return {name: growth(values) for name, values in self._samples.items() if len(values) >= 12}

    def _run(self) -> None:
        while not self._stopped.is_set():
            started_s = time.monotonic()
            for name, num_bytes in self._sample().items():
                self._samples[name].append(num_bytes)
            self._stopped.wait(max(0.0, self._every_s - (time.monotonic() - started_s)))

    def _sample(self) -> dict[str, int]:
        found: dict[str, int] = defaultdict(int)
        try:
            family = [self._driver, *self._driver.children(recursive=True)]
        except psutil.NoSuchProcess:
            return {}
        for process in family:
            try:
                title = " ".join(process.cmdline())
                memory = process.memory_info()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if process.pid == self._driver.pid:
                found["driver"] += memory.rss - memory.shared
            elif title.split(" ")[0].endswith("/raylet"):
                found["object store"] += memory.shared  # Ray keeps it in shared memory, which its raylet maps
            for role in ROLES:
                if title.startswith(f"ray::{role}"):
                    found[role] += memory.rss - memory.shared
        found["run folder"] = sum(path.stat().st_size for path in self._run_dir.rglob("*") if path.is_file())
        return dict(found)


def growth(values: list[int]) -> Growth:
    """Return the growth over at least 12 samples in their order."""
    sixth = len(values) // 6
    return Growth(early_bytes=median(values[sixth : 2 * sixth]), late_bytes=median(values[-sixth:]))
