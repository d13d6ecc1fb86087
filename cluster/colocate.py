"""How engine and learner share a device: as the configuration says, or what the memory plan says fits."""

from __future__ import annotations

from collections.abc import Callable

from cluster.memory_plan import MemoryPlan, ModelShape, plan_memory
from cluster.memory_plan.phases import Device
from cluster.memory_plan.placements import Sharing
from configs.colocation import Colocation
from configs.errors import UserError
from configs.schema import RunConfig

GIB = 2**30


def with_colocation(
    config: RunConfig,
    shape: Callable[[], ModelShape],
    budget_bytes: Callable[[], int],
    planned: Callable[[RunConfig, ModelShape, int], MemoryPlan] = plan_memory,
) -> tuple[RunConfig, str]:
    """The configuration with `cluster.colocation` decided, and a line that says why.

    `auto` is `resident` unless a GPU is shared: elsewhere there is nothing to hand over. Raises UserError when the
    plan knows no placement that fits.
    """
    if config.cluster.colocation != "auto":
        return config, f"engine and learner: {config.cluster.colocation}, as configured"
    if Sharing.of(config).device is not Device.SHARED_GPU:
        return _decided(config, Colocation.RESIDENT), "engine and learner share no GPU"
    plan = planned(config, shape(), budget_bytes())
    if plan.chosen is None:
        raise UserError(_does_not_fit(plan))
    share = f"{plan.chosen.peak_bytes / GIB:.1f} of {plan.budget_bytes / GIB:.1f} GiB at the peak"
    return _decided(config, plan.chosen.colocation), f"engine and learner: {plan.chosen.colocation}, {share}"


def _decided(config: RunConfig, colocation: Colocation) -> RunConfig:
    return config.model_copy(update={"cluster": config.cluster.model_copy(update={"colocation": colocation})})


def _does_not_fit(plan: MemoryPlan) -> str:
    changes = {} if plan.remedy is None else plan.remedy.changes
    remedy = " ".join(f"{key}={value}" for key, value in changes.items())
    return (
        f"Engine and learner don't fit into the GPU's {plan.budget_bytes / GIB:.1f} GiB in any placement: "
        f"{f'set {remedy}' if remedy else f'take a smaller model or {plan.larger}'}; "
        "'floe plan' shows what takes how much."
    )
