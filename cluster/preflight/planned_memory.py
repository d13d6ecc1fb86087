"""The check of the memory plan against the GPU's memory, or the host's where the run has no GPU."""

from __future__ import annotations

from floe.cluster.machine.free_memory import free_memory_bytes
from floe.cluster.machine.gpus import GpuReading
from floe.cluster.memory_plan import MemoryPlan, plan_memory
from floe.cluster.memory_plan.of_machine import basis_of, budget_bytes, card_of, host_total_bytes
from floe.cluster.memory_plan.phases import Device
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.memory_plan.verdict import GIB, changes_that_fit, lack, verdict
from floe.cluster.preflight.finding import Finding, fault, ok, warning
from floe.configs.schema import RunConfig


def planned_memory(config: RunConfig, found: GpuReading) -> Finding:
    """Check the plan. Raises UserError for a model that the plan doesn't know."""
    if config.rollout.num_gpus == 0:
        return judge(plan_memory(config, shape_of(config), budget_bytes(config, None)), free_memory_bytes(), False)
    card = card_of(config, found)
    basis = basis_of(config, card.overheads, host_total_bytes(config, card))
    made = plan_memory(config, shape_of(config), card.usable_bytes, basis)
    return judge(made, free_memory_bytes(), card.is_assumed)


def judge(made: MemoryPlan, host_free_bytes: float, is_assumed: bool) -> Finding:
    """Judge the plan. `is_assumed` says that the GPU's size is assumed, because this machine has none."""
    chosen = made.chosen
    where = ", on an assumed GPU" if is_assumed else ""
    if chosen is None:
        changes = changes_that_fit(made)
        remedy = f"set {changes}" if changes else f"take a smaller model or {made.larger}"
        found = f"the run does not fit{where}: {lack(made)}"
        return (
            warning(found, remedy) if is_assumed else fault(found, f"{remedy}; 'floe plan' shows what takes how much")
        )
    if made.device is Device.HOST and chosen.peak_bytes > host_free_bytes:
        return warning(
            f"the run may take {chosen.peak_bytes / GIB:.1f} GiB, {host_free_bytes / GIB:.1f} are free now",
            "end other programs",
        )
    if made.device is not Device.HOST and chosen.host_limit_bytes is not None and chosen.host_bytes > host_free_bytes:
        return warning(
            f"with {chosen.colocation} {chosen.host_bytes / GIB:.1f} GiB lie pinned on the host, "
            f"{host_free_bytes / GIB:.1f} are free now",
            "end other programs",
        )
    return ok(f"{verdict(made).rstrip('.')}{where}")
