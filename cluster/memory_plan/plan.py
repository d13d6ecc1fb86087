"""The memory plan of a run: its placements, the one that would be taken, and changes when none fits (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from floe.cluster.memory_plan.basis import ASSUMED, PlanBasis
from floe.cluster.memory_plan.learner.work import WorkSource
from floe.cluster.memory_plan.overheads import GIB, Overheads
from floe.cluster.memory_plan.phases import Device, PlacementPlan
from floe.cluster.memory_plan.placements import Placements
from floe.cluster.memory_plan.remedies import Remedy, remedy_for
from floe.cluster.memory_plan.shapes.model_shape import ModelShape
from floe.configs.schema import RunConfig
from floe.configs.sections.colocation import Colocation


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    shape: ModelShape
    device: Device
    budget_bytes: int  # of the device
    options: tuple[PlacementPlan, ...]  # in the order of preference
    remedy: Remedy | None  # None when one fits
    work: WorkSource
    overheads: Overheads

    @property
    def chosen(self) -> PlacementPlan | None:
        return next((option for option in self.options if option.fits), None)

    @property
    def colocation(self) -> Colocation | None:
        """The first placement that fits; None when none does."""
        return None if self.chosen is None else self.chosen.colocation

    @property
    def lacks_host(self) -> bool:
        """True when some settings would do for the device, and only the host's memory is too small."""
        return self.remedy is not None and not self.remedy.changes and self.remedy.needed_bytes <= self.budget_bytes

    @property
    def larger(self) -> str:
        """A larger machine that would do, where no settings do."""
        if self.lacks_host:
            return f"a host with {max(option.host_bytes for option in self.options) / GIB:.0f} GiB for pinned memory"
        return "a larger device" + ("" if self.remedy is None else f" of {self.remedy.needed_bytes / GIB:.0f} GiB")


def plan_memory(
    config: RunConfig, model_shape: ModelShape, budget_bytes: int, basis: PlanBasis = ASSUMED
) -> MemoryPlan:
    """Plan the memory. `budget_bytes` is that of the GPU which engine and learner share, of each GPU, or of a host."""
    placements = Placements(config, model_shape, budget_bytes, basis)
    options = placements.options()
    return MemoryPlan(
        shape=model_shape,
        device=placements.sharing.device,
        budget_bytes=budget_bytes,
        options=options,
        remedy=None if any(option.fits for option in options) else remedy_for(config, model_shape, budget_bytes, basis),
        work=placements.work,
        overheads=basis.overheads,
    )
