"""How much memory a run may take here, and whether that is enough."""

from __future__ import annotations

from pathlib import Path

import psutil

from configs.errors import UserError

CONTAINER = Path("/sys/fs/cgroup")  # version 2: limit and use of the container that this process is in


def free_memory_bytes(container: Path = CONTAINER) -> float:
    """Of the machine, or what its container has left of its limit; file pages that would be given up count as free."""
    free_bytes: float = psutil.virtual_memory().available
    limit, used = container / "memory.max", container / "memory.current"
    if limit.is_file() and used.is_file() and (limit_text := limit.read_text().strip()) != "max":
        free_bytes = min(free_bytes, int(limit_text) - int(used.read_text()) + _reclaimable_bytes(container))
    return free_bytes


def total_memory_bytes(container: Path = CONTAINER) -> int:
    """Of the machine, or the limit of its container."""
    total: int = psutil.virtual_memory().total
    limit = container / "memory.max"
    if limit.is_file() and (limit_text := limit.read_text().strip()) != "max":
        total = min(total, int(limit_text))
    return total


def check_free_memory(needed_gib: float, free_bytes: float) -> None:
    """Raises UserError."""
    if free_bytes < needed_gib * 2**30:
        raise UserError(
            f"This machine has {free_bytes / 2**30:.1f} GiB of free memory, the run needs {needed_gib:g}: "
            "free some, or lower cluster.min_free_memory_gib if you know better."
        )


def _reclaimable_bytes(container: Path) -> int:
    path = container / "memory.stat"
    lines = path.read_text().splitlines() if path.is_file() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
