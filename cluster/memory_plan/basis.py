"""Sources that a plan is made from, besides the configuration and the model's shape (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field

from floe.cluster.memory_plan.learner.work import WorkSource
from floe.cluster.memory_plan.overheads import Overheads


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanBasis:
    """Sources of the figures; without any, bounds and assumptions are used."""

    work: WorkSource | None = None  # None: bounds
    overheads: Overheads = field(default_factory=Overheads)
    host_bytes: int | None = None  # what the host has for pinned memory; None: not asked


ASSUMED = PlanBasis()
