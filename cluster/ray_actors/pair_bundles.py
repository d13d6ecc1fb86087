"""Ray: a whole GPU, as one bundle of a placement group, for each pair of an engine and a learner rank that share it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from floe.cluster.ray_actors.actor_start import over_nodes
from floe.cluster.waits import waits
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

GROUP = "engine-learner-pairs"  # name of the placement group, in the run's namespace

PlaceOf = Callable[[int], dict[str, Any]]  # from an actor's number to Ray's options


def places_of(config: RunConfig, num_actors: int) -> PlaceOf:
    """Return where each actor of a role goes: actors of pairs to the bundle of their number, others over the nodes.

    A successor has its predecessor's number, and so its GPU. Raises UserError when there is no room for all pairs.
    """
    if config.num_pairs == 0:
        return lambda number: over_nodes(num_actors)
    group = _group(config)
    return lambda number: {
        "scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number)
    }


def bundle_of(config: RunConfig) -> dict[str, float]:
    """Return Ray's resources of one pair: whole GPUs, because Ray would put the two halves of both ranks onto one."""
    num_cpus = config.rollout.num_cpus + config.learner.num_cpus
    return {"GPU": 1.0} | ({"CPU": num_cpus} if num_cpus > 0 else {})


def check_bundles(config: RunConfig, nodes: Sequence[Mapping[str, float]]) -> None:
    """Raise UserError when the nodes, each with all of its resources free, have no room for all pairs."""
    if config.num_pairs == 0:
        return
    asked = bundle_of(config)
    room = sum(min(int(node.get(name, 0.0) / amount) for name, amount in asked.items()) for node in nodes)
    if room < config.num_pairs:
        raise UserError(
            f"The run's {config.num_pairs} pairs of engine and learner take {_shown(asked)} each, on one node, and the "
            f"cluster's {len(nodes)} nodes have room for {room}: lower rollout.num_actors and learner.num_ranks "
            f"together, or add GPUs."
        )


def _group(config: RunConfig) -> PlacementGroup:
    """Return the run's group: made by the first role that starts, and found by the others; it ends with the run."""
    try:
        return ray.util.get_placement_group(GROUP)
    except ValueError:  # there is none yet
        group = placement_group([bundle_of(config)] * config.num_pairs, strategy="PACK", name=GROUP)
    limit_s = config.start_limit_s
    with waits.on("driver", "GPUs for the pairs of engine and learner", limit_s) as wait:
        if group.wait(wait.left_s):
            return group
    remove_placement_group(group)  # otherwise it would take what becomes free
    free = ray.available_resources()
    raise UserError(
        f"Ray found no place for the run's {config.num_pairs} pairs of engine and learner, {_shown(bundle_of(config))} "
        f"each, within cluster.start_timeout_s = {limit_s:g} s ({free.get('GPU', 0.0):g} GPUs are free): free some, "
        "add a node, or lower rollout.num_actors and learner.num_ranks together."
    )


def _shown(asked: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in asked.items())
