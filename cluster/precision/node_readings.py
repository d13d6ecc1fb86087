"""Measures with Ray how fast each node of a joined cluster computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from floe.cluster.memory_plan import ModelShape
from floe.cluster.precision.measurement import measure_cpu, read_gpu
from floe.cluster.precision.rates import Machine
from floe.cluster.waits import waits

SOME_GPU = 0.01  # share of a card, so that Ray shows the process a card whatever else uses it


def machines_of_nodes(
    shape: ModelShape, num_threads: int, limit_s: float
) -> tuple[tuple[Machine, ...], tuple[Machine, ...]]:
    """Return the processors of all nodes, and the cards of those that have one; one node after the other.

    Raises WaitTooLong when a node does not answer in time.
    """
    processors: list[Machine] = []
    cards: list[Machine] = []
    for node in (one for one in ray.nodes() if one["Alive"]):
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        where = f"node {node['NodeManagerAddress']} to be measured"
        processors.append(_ask(measure_cpu, {"num_cpus": 0}, place, where, limit_s, shape, num_threads))
        if node["Resources"].get("GPU", 0.0) > 0:
            card = _ask(read_gpu, {"num_cpus": 0, "num_gpus": SOME_GPU}, place, where, limit_s)
            cards += [] if card is None else [card]
    return tuple(processors), tuple(cards)


def _ask(
    what: Callable[..., Any],
    resources: dict[str, float],
    place: NodeAffinitySchedulingStrategy,
    where: str,
    limit_s: float,
    *args: Any,
) -> Any:
    with waits.on("driver", where, limit_s) as wait:
        try:
            task = ray.remote(what).options(scheduling_strategy=place, **resources)
            return ray.get(task.remote(*args), timeout=wait.left_s)
        except ray.exceptions.GetTimeoutError as fault:
            raise wait.too_long() from fault
