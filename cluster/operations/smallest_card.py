"""The memory of the smallest GPU that a run may use: this machine's, or a joined cluster's."""

from __future__ import annotations

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from floe.cluster.machine.ray_address import cluster_address
from floe.cluster.memory_plan.of_machine import budget_bytes
from floe.cluster.precision.node_readings import SOME_GPU
from floe.cluster.ray_actors.placement import ray_session
from floe.cluster.waits import waits
from floe.configs.schema import RunConfig

REMEDY = "see 'ray status' for what holds the GPUs, or raise cluster.start_timeout_s"


def smallest_card_bytes(config: RunConfig) -> int:
    """Return the memory that one GPU has for the run; the driver of a joined cluster may itself have none.

    Raises WaitTooLong when a node does not answer in time, and UserError for a cluster that can't be joined.
    """
    if not config.asks_for_gpus or cluster_address(config.cluster) is None:
        return budget_bytes(config, None)
    with ray_session(config.cluster, namespace="floe-cards"):
        found = cards_of_nodes(config)
    return min(found, default=budget_bytes(config, None))


def cards_of_nodes(config: RunConfig) -> list[int]:
    """Return the memory of one GPU of each node that has some, as the node itself reads it."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0.0) > 0]
    with waits.on("driver", "the GPUs' memory on each node", config.start_limit_s, REMEDY) as wait:
        try:
            asked = [
                ray.remote(budget_bytes)
                .options(num_cpus=0, num_gpus=SOME_GPU, scheduling_strategy=_on(node["NodeID"]))
                .remote(config, None)
                for node in nodes
            ]
            found: list[int] = ray.get(asked, timeout=wait.left_s)
            return found
        except ray.exceptions.GetTimeoutError as fault:
            raise wait.too_long() from fault


def _on(node_id: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node_id, soft=False)
