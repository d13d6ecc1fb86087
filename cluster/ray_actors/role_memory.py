"""Resident memory of a run's roles on the driver's node."""

from __future__ import annotations

from collections.abc import Iterable

import psutil

from floe.cluster.ray_actors.run_actors import living_actors, own_node_id
from floe.cluster.tracking.step_metrics import RoleMemory


def role_memory() -> RoleMemory:
    """Return the memory of the run whose driver calls it. Ray itself measures whole nodes, other runs included."""
    here = own_node_id()
    pids: dict[str, list[int]] = {}
    for actor in living_actors():
        if actor.node_id == here:
            pids.setdefault(actor.role, []).append(actor.pid)
    return RoleMemory(
        driver_bytes=psutil.Process().memory_info().rss,
        rollout_bytes=_resident_bytes(pids.get("rollout", ())),
        reward_bytes=_resident_bytes(pids.get("reward", ())),
        learner_bytes=_resident_bytes(pids.get("learner", ())),
    )


def _resident_bytes(pids: Iterable[int]) -> int | None:
    found = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        for member in family:
            try:
                found.append(member.memory_info().rss)
            except psutil.NoSuchProcess:  # ended meanwhile
                continue
    return sum(found) if found else None
