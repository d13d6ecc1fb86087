"""Ray: waits for actors to start, and says what is missing when they don't."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from floe.cluster.waits import Wait, waits
from floe.configs.errors import UserError


def over_nodes(num_actors: int) -> dict[str, Any]:
    """Return options that put several actors of a role on different nodes, as far as nodes have room."""
    return {"scheduling_strategy": "SPREAD"} if num_actors > 1 else {}


def await_start(handles: Sequence[Any], role: str, asked: Mapping[str, float], limit_s: float) -> None:
    """Return when every actor answers. `role` and `asked` are of one actor. Raises UserError."""
    with starting(handles, role, asked, limit_s) as wait:
        ray.get([handle.ping.remote() for handle in handles], timeout=wait.left_s)


@contextmanager
def starting(handles: Sequence[Any], role: str, asked: Mapping[str, float], limit_s: float) -> Iterator[Wait]:
    """Turn errors of actors that start within the block into a UserError that names the role and what it asks for."""
    with waits.on("driver", f"the {role} to start", limit_s) as wait:
        try:
            yield wait
        except GetTimeoutError as fault:
            num_unplaced = sum(not _is_placed(handle) for handle in handles)
            if num_unplaced == 0:
                raise UserError(
                    f"The {role} did not start within cluster.start_timeout_s = {limit_s:g} s: "
                    "raise it, or see what occupies the machine."
                ) from fault
            for handle in handles:
                ray.kill(handle)  # otherwise they would take what becomes free
            raise UserError(_unplaced(role, num_unplaced, len(handles), asked, limit_s)) from fault
        except (RayActorError, RayTaskError) as fault:
            raise UserError(
                f"The {role} could not start: {last_cause(fault)}; the full trace is in Ray's logs."
            ) from fault


def last_cause(fault: RayError) -> str:
    """Return the last line of a remote trace that names an error."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line or "Exception" in line]
    return (named or lines)[-1].rstrip(".")


def resource_sentence(
    role: str, asked: Mapping[str, float], free: Mapping[str, float], total: Mapping[str, float]
) -> str:
    """Return a sentence on what one actor asks for, and what there is of it."""
    parts = [
        f"{amount:g} {name} ({free.get(name, 0.0):g} of the cluster's {total.get(name, 0.0):g} are free)"
        for name, amount in asked.items()
        if amount > 0
    ]
    return f"a {role} asks for {' and '.join(parts) or 'nothing'}"


def _unplaced(role: str, num_unplaced: int, num_asked: int, asked: Mapping[str, float], limit_s: float) -> str:
    offers = resource_sentence(role, asked, ray.available_resources(), ray.cluster_resources())
    return (
        f"Ray found no place for {num_unplaced} of {num_asked} actors '{role}' within cluster.start_timeout_s = "
        f"{limit_s:g} s: {offers}; free some, add a node, or lower what the configuration reserves for it."
    )


def _is_placed(handle: Any) -> bool:
    """Return whether a node has taken the actor; Ray's public calls for that need its dashboard."""
    from ray._private.state import actors

    return bool(actors(handle._actor_id.hex())["Address"]["IPAddress"])
