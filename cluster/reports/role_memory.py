"""Resident memory of a run's roles on the driver's node."""

from __future__ import annotations

import re
from collections.abc import Iterable

import psutil
import ray

from cluster.reports.step_metrics import RoleMemory

NUMBER_OF_ACTOR = re.compile(r"-\d.*")  # `rollout-0`, `rollout-0-successor-1`


def role_memory() -> RoleMemory:
    """Of the run whose driver calls it. Ray itself measures whole nodes, the others' too."""
    from ray._private.state import actors  # Ray's public calls that tell an actor's process need its dashboard

    context = ray.get_runtime_context()
    pids: dict[str, list[int]] = {}
    for actor in actors().values():
        is_here = actor["Address"]["NodeID"] == context.get_node_id()
        if is_here and actor["State"] == "ALIVE" and actor["JobID"] == context.get_job_id():
            pids.setdefault(NUMBER_OF_ACTOR.sub("", actor["Name"]), []).append(actor["Pid"])
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
