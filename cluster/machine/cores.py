"""Counts the cores that this process may use: by its affinity and by a control group's quota of CPU time."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from floe.cluster.machine.control_groups import GROUPS, MEMBERSHIP, group_folders


def num_cores() -> int:
    """Return the threads that a role gets where its `num_threads` is 0: the physical cores it may use, at least 1."""
    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return max(1, min(physical, int(num_allowed_cores())))


def num_allowed_cores(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> float:
    """Return the cores that this process may be on, within the quota of CPU time of each of its control groups."""
    allowed: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    for folder in group_folders("cpu", groups, membership):
        for quota in (_quota(folder / "cpu.max"), _quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")):
            allowed = allowed if quota is None else min(allowed, quota)
    return allowed


def _quota(*paths: Path) -> float | None:
    """Return microseconds of CPU over their period in microseconds; None without a limit, `max` or -1."""
    if not all(path.is_file() for path in paths):
        return None
    numbers = " ".join(path.read_text() for path in paths).split()
    if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        return None
    return int(numbers[0]) / int(numbers[1])
