"""The check of the memory plan against the GPU's memory, or the host's where the run has no GPU."""

from __future__ import annotations

from cluster.free_memory import free_memory_bytes
from cluster.memory_plan import MemoryPlan, plan_memory
from cluster.memory_plan.model_config import shape_of
from cluster.memory_plan.phases import Device
from cluster.operations.plan import GIB, budget_bytes, changes_that_fit, lack, verdict
from cluster.preflight.finding import Finding, fault, ok, warning
from cluster.preflight.gpus import GpuReading
from configs.schema import RunConfig


def planned_memory(config: RunConfig, found: GpuReading) -> Finding:
    """Raises UserError for a model that the plan doesn't know."""
    given = f"{min(one.total_bytes for one in found.gpus)}B" if config.rollout.num_gpus and found.gpus else None
    made = plan_memory(config, shape_of(config), budget_bytes(config, given))
    is_assumed = made.device is not Device.HOST and not found.gpus
    return judge(made, free_memory_bytes(), is_assumed)


def judge(made: MemoryPlan, host_free_bytes: float, is_assumed: bool) -> Finding:
    """`is_assumed` says that the GPU's size is, because this machine has none: the run may be meant for another."""
    chosen = made.chosen
    where = ", on an assumed GPU" if is_assumed else ""
    if chosen is None:
        changes = changes_that_fit(made)
        needed = "" if made.remedy is None else f" of {made.remedy.needed_bytes / GIB:.0f} GiB"
        remedy = f"set {changes}" if changes else f"take a smaller model or a larger device{needed}"
        found = f"the run does not fit{where}: {lack(made)}"
        return (
            warning(found, remedy) if is_assumed else fault(found, f"{remedy}; 'floe plan' shows what takes how much")
        )
    if made.device is Device.HOST and chosen.peak_bytes > host_free_bytes:
        return warning(
            f"the run may take {chosen.peak_bytes / GIB:.1f} GiB, {host_free_bytes / GIB:.1f} are free now",
            "end other programs",
        )
    return ok(f"{verdict(made).rstrip('.')}{where}")
