"""Finds how much memory a run may take here, and whether that is enough."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import psutil

from floe.cluster.machine.control_groups import GROUPS, MEMBERSHIP, group_folders
from floe.configs.errors import UserError


class _Names(NamedTuple):
    limit: str
    used: str
    reclaimable: str  # field of memory.stat: file pages that would be given up


VERSIONS = (
    _Names("memory.max", "memory.current", "inactive_file"),
    _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory_bytes(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> float:
    """Return what the machine has free, or what a control group has left of its limit.

    File pages that would be given up count as free.
    """
    free_bytes: float = psutil.virtual_memory().available
    for folder in group_folders("memory", groups, membership):
        for names in VERSIONS:
            limit_bytes, used_bytes = _bytes(folder / names.limit), _bytes(folder / names.used)
            if limit_bytes is not None and used_bytes is not None:
                reclaimable_bytes = _counted(folder / "memory.stat", names.reclaimable)
                free_bytes = min(free_bytes, limit_bytes - used_bytes + reclaimable_bytes)
    return free_bytes


def total_memory_bytes(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return the machine's memory, or the smallest limit of the control groups that this process is in."""
    folders = group_folders("memory", groups, membership)
    limits = [_bytes(folder / names.limit) for folder in folders for names in VERSIONS]
    return min([psutil.virtual_memory().total, *(limit for limit in limits if limit is not None)])


def check_free_memory(needed_gib: float, free_bytes: float) -> None:
    """Raise UserError when the run needs more memory than is free."""
    if free_bytes < needed_gib * 2**30:
        raise UserError(
            f"This machine has {free_bytes / 2**30:.1f} GiB of free memory, the run needs {needed_gib:g}: "
            "free some, or lower cluster.min_free_memory_gib if you know better."
        )


def _bytes(path: Path) -> int | None:
    """Return the number of a file; None for a file that is not there, and for `max`, which is no limit."""
    text = path.read_text().strip() if path.is_file() else ""
    return int(text) if text.isdigit() else None


def _counted(path: Path, name: str) -> int:
    lines = path.read_text().splitlines() if path.is_file() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{name} "))
