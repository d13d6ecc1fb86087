"""Changes for a run that does not fit: the fewest of a list of concrete settings, or a larger device (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from floe.cluster.memory_plan.basis import PlanBasis
from floe.cluster.memory_plan.engine_memory import group_kv_bytes
from floe.cluster.memory_plan.overheads import GIB
from floe.cluster.memory_plan.phases import Device
from floe.cluster.memory_plan.placements import Placements
from floe.cluster.memory_plan.shapes.model_shape import ModelShape
from floe.configs.schema import RunConfig

FEW_SEQUENCES = 32
MIN_CONTEXT_TOKENS = 1024
MIN_COMPLETION_TOKENS = 64

Changes = dict[str, Any]  # by `section.field`


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """Settings `changes`, by dotted key, that make the run fit; empty when only a device of `needed_bytes` would."""

    changes: Changes
    needed_bytes: int  # of the device, for the configuration with these changes or with all of them


def remedy_for(config: RunConfig, shape: ModelShape, budget_bytes: int, basis: PlanBasis) -> Remedy:
    changes: Changes = {}
    for step in _steps(config):
        changes |= step
        whole = changes | _engine_share(_changed(config, changes), shape, budget_bytes, basis)
        if _fits(config, whole, shape, budget_bytes, basis):
            kept = _without_needless(config, whole, shape, budget_bytes, basis)
            return Remedy(changes=kept, needed_bytes=budget_bytes)
    return Remedy(changes={}, needed_bytes=_needed(_changed(config, changes), shape, basis))


def _steps(config: RunConfig) -> Iterator[Changes]:
    """Yield the changes from what costs nothing to what costs most; each is added to those before it."""
    yield {}
    if config.cluster.colocation != "auto":
        yield {"cluster.colocation": "auto"}
    if not config.learner.gradient_checkpointing:
        yield {"learner.gradient_checkpointing": True}
    context, completion = config.model.max_context_tokens, config.rollout.max_new_tokens
    if config.learner.max_pack_tokens > context:
        yield {"learner.max_pack_tokens": context}
    if config.rollout.max_num_seqs > FEW_SEQUENCES:
        yield {"rollout.max_num_seqs": FEW_SEQUENCES}
    if config.learner.decided_zero_stage(config.model.dtype) == 1:
        yield {"learner.zero_stage": 2}
    while context // 2 >= MIN_CONTEXT_TOKENS:
        context //= 2
        completion = min(completion, max(context // 2, MIN_COMPLETION_TOKENS))
        yield {
            "model.max_context_tokens": context,
            "rollout.max_new_tokens": completion,
            "learner.max_pack_tokens": min(config.learner.max_pack_tokens, context),
        }


def _engine_share(config: RunConfig, shape: ModelShape, budget_bytes: int, basis: PlanBasis) -> Changes:
    """Return the least share that lets the engine hold one whole group, unless it is set already."""
    placements = Placements(config, shape, budget_bytes, basis)
    on_host = placements.sharing.device is Device.HOST
    wanted = max(placements.min_kv_bytes, group_kv_bytes(config, shape, on_host))
    if on_host:
        gib = math.ceil(wanted / GIB)
        return {"rollout.kv_cache_gib": gib} if gib < config.rollout.kv_cache_gib else {}
    needed = wanted + placements.engine.num_bytes + placements.engine_share_overhead_bytes
    share = math.ceil(100 * needed / budget_bytes) / 100
    return {"rollout.gpu_memory_share": share} if share <= 1 else {}


def _changed(config: RunConfig, changes: Changes) -> RunConfig:
    """Return the changed configuration, checked by the schema again."""
    values = config.model_dump()
    for key, value in changes.items():
        section, _, field = key.partition(".")
        values[section][field] = value
    return RunConfig.model_validate(values)


def _fits(config: RunConfig, changes: Changes, shape: ModelShape, budget_bytes: int, basis: PlanBasis) -> bool:
    return Placements(_changed(config, changes), shape, budget_bytes, basis).fit


def _without_needless(
    config: RunConfig, changes: Changes, shape: ModelShape, budget_bytes: int, basis: PlanBasis
) -> Changes:
    kept = dict(changes)
    for key in reversed(changes):
        fewer = {name: value for name, value in kept.items() if name != key}
        # Context and completion are lowered together, because the schema leaves the prompt the tokens between them.
        if fewer.get("rollout.max_new_tokens") is None and "model.max_context_tokens" in fewer:
            continue
        if _fits(config, fewer, shape, budget_bytes, basis):
            kept = fewer
    return kept


def _needed(config: RunConfig, shape: ModelShape, basis: PlanBasis) -> int:
    """Return the smallest whole number of GiB that fits, with the engine's share set for it and enough host memory."""
    num_gib, basis = 1, replace(basis, host_bytes=None)
    while not _fits(config, _engine_share(config, shape, num_gib * GIB, basis), shape, num_gib * GIB, basis):
        num_gib += 1
    return num_gib * GIB
