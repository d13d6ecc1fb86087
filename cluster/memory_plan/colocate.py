"""Decides how engine and learner share a device: as configured, or as the memory plan says that it fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from floe.cluster.memory_plan import MemoryPlan, ModelShape, plan_memory
from floe.cluster.memory_plan.phases import Device
from floe.cluster.memory_plan.placements import Sharing
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig
from floe.configs.sections.colocation import Colocation

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Colocated:
    """A configuration with `cluster.colocation` decided."""

    config: RunConfig
    line: str  # sentence that says why
    kv_cache_bytes: int | None  # of each engine; None where an engine has its device alone and measures it itself


def shares_gpu(config: RunConfig) -> bool:
    """Return whether an engine and a learner rank use the same GPU."""
    return Sharing.of(config).device is Device.SHARED_GPU


def with_colocation(
    config: RunConfig,
    shape: Callable[[], ModelShape],
    budget_bytes: Callable[[], int],
    plan_of: Callable[[RunConfig, ModelShape, int], MemoryPlan] = plan_memory,
) -> Colocated:
    """Decide `cluster.colocation`: `auto` is `resident` unless a GPU is shared, because there is nothing to hand over.

    Raises UserError when the plan knows no placement that fits; a configured placement is taken as it is.
    """
    asked, device = config.cluster.colocation, Sharing.of(config).device
    is_open = asked == "auto"
    if device is Device.HOST or (device is Device.OWN_GPUS and not is_open):
        return _decided(config, Colocation.RESIDENT, "engine and learner share no GPU") if is_open else _given(config)
    plan = plan_of(config, shape(), budget_bytes())
    if not is_open:
        (planned,) = plan.options
        return _given(config, planned.kv_bytes if planned.kv_bytes >= planned.min_kv_bytes else None)
    if plan.chosen is None:
        raise UserError(_does_not_fit(plan))
    share = f"{plan.chosen.peak_bytes / GIB:.1f} of {plan.budget_bytes / GIB:.1f} GiB at the peak"
    if device is Device.OWN_GPUS:
        return _decided(config, Colocation.RESIDENT, f"engine and learner share no GPU, {share}")
    colocation = plan.chosen.colocation
    return _decided(config, colocation, f"engine and learner: {colocation}, {share}", plan.chosen.kv_bytes)


def _given(config: RunConfig, kv_cache_bytes: int | None = None) -> Colocated:
    line = f"engine and learner: {config.cluster.colocation}, as configured"
    return Colocated(config=config, line=line, kv_cache_bytes=kv_cache_bytes)


def _decided(config: RunConfig, colocation: Colocation, line: str, kv_cache_bytes: int | None = None) -> Colocated:
    cluster = config.cluster.model_copy(update={"colocation": colocation})
    config = config.model_copy(update={"cluster": cluster})
    return Colocated(config=config, line=line, kv_cache_bytes=kv_cache_bytes)


def _does_not_fit(plan: MemoryPlan) -> str:
    changes = {} if plan.remedy is None else plan.remedy.changes
    remedy = " ".join(f"{key}={value}" for key, value in changes.items())
    budget = f"{plan.budget_bytes / GIB:.1f} GiB"
    what = (
        f"Engine or learner don't fit into a GPU of their own of {budget}"
        if plan.device is Device.OWN_GPUS
        else f"Engine and learner don't fit into the GPU's {budget} in any placement"
    )
    change = f"set {remedy}" if remedy else f"take a smaller model or {plan.larger}"
    return f"{what}: {change}; 'floe plan' shows what takes how much."
