"""Checks of the joined Ray cluster: what placement asks for against what it has, and its object store."""

from __future__ import annotations

import ray

from floe.cluster.preflight.finding import Finding, fault, ok, warning
from floe.cluster.ray_actors.placement import check_resources, needed_resources
from floe.configs.schema import RunConfig

RUNS_BESIDE = 4  # blobs: room for other data; apart from adapters the store holds the texts of a few candidates


def resources(config: RunConfig) -> Finding:
    """Check the cluster's total. Raises UserError for what it never has: an actor would wait for it for ever."""
    check_resources(config)
    found = ray.cluster_resources()
    parts = [f"{amount:g} of {found.get(name, 0.0):g} {name}s" for name, amount in needed_resources(config).items()]
    return ok(f"the run takes {', '.join(parts)} on {sum(node['Alive'] for node in ray.nodes())} nodes")


def free_resources(config: RunConfig) -> Finding:
    """Check what is free; what others hold may become free while the run waits for its actors."""
    free = ray.available_resources()
    short = [
        f"{free.get(name, 0.0):g} of the {amount:g} {name}s"
        for name, amount in needed_resources(config).items()
        if free.get(name, 0.0) < amount
    ]
    if short:
        return warning(
            f"only {' and '.join(short)} that the run takes are free, and it waits "
            f"{config.start_limit_s:g} s for the rest",
            "end what holds them ('ray status'), or wait",
        )
    return ok("what the run takes is free")


def object_store(config: RunConfig, num_adapter_weights: int) -> Finding:
    """Check the store: each node has a copy of every adapter version that may still be asked for."""
    weight_bytes = 2 if config.model.dtype == "bfloat16" else 4
    needed_bytes = num_adapter_weights * weight_bytes * (config.rollout.num_live_adapters + RUNS_BESIDE)
    smallest = min(node["Resources"].get("object_store_memory", 0.0) for node in ray.nodes() if node["Alive"])
    said = f"{smallest / 2**20:.0f} MiB on the node with the least"
    if smallest < needed_bytes:
        return fault(
            f"Ray's object store has {said}, the run's adapters take {needed_bytes / 2**20:.0f}",
            "lower lora.rank or rollout.max_staleness, or start Ray with a larger --object-store-memory",
        )
    return ok(f"{said}, the run's adapters take {needed_bytes / 2**20:.0f}")
