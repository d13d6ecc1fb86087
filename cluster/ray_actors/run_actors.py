"""Ray: the actors of the run whose driver asks, and where they are."""

from __future__ import annotations

import re
from dataclasses import dataclass

import ray

NUMBER_OF_ACTOR = re.compile(r"-\d.*")  # `rollout-0`, `rollout-0-successor-1`


@dataclass(frozen=True, slots=True, kw_only=True)
class RunActor:
    name: str
    role: str
    node_id: str
    pid: int


def own_node_id() -> str:
    node_id: str = ray.get_runtime_context().get_node_id()
    return node_id


def living_actors() -> list[RunActor]:
    """Return the actors of this run, of every node, that have started and not ended."""
    from ray._private.state import actors  # Ray's public calls that tell an actor's process need its dashboard

    job_id = ray.get_runtime_context().get_job_id()
    return [
        RunActor(
            name=actor["Name"],
            role=NUMBER_OF_ACTOR.sub("", actor["Name"]),
            node_id=actor["Address"]["NodeID"],
            pid=actor["Pid"],
        )
        for actor in actors().values()
        if actor["State"] == "ALIVE" and actor["JobID"] == job_id
    ]
