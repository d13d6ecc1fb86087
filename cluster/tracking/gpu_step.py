"""Use of a run's cards in one step, by role and by phase of the main loop (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import fmean

from floe.cluster.messages import StepReport


class GpuPhase(StrEnum):
    """Turn in the main loop; with generation ahead of the updates the engines work in all phases."""

    GENERATE = "generate"
    HANDOVER = "handover"
    LEARN = "learn"


GPU_ROLES = ("rollout", "learner")


@dataclass(frozen=True, slots=True, kw_only=True)
class CardUse:
    """Node's watch to driver: readings of one card in one phase, since the previous request."""

    card: str  # its UUID
    roles: tuple[str, ...]  # of the actors that have it
    phase: GpuPhase
    total_bytes: int
    peak_bytes: int  # the most in use at one time, by all processes
    busy_shares: tuple[float, ...]  # of each reading; empty where the card doesn't tell


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """Some cards in a step: memory is the fullest card's, the share busy is the mean and the largest over all."""

    memory_bytes: int
    total_bytes: int
    busy_share: float | None
    busy_peak_share: float | None

    @classmethod
    def of(cls, uses: Iterable[CardUse]) -> GpuUse:
        given = tuple(uses)
        fullest = max(given, key=lambda one: one.peak_bytes)
        busy = [share for one in given for share in one.busy_shares]
        return cls(
            memory_bytes=fullest.peak_bytes,
            total_bytes=fullest.total_bytes,
            busy_share=fmean(busy) if busy else None,
            busy_peak_share=max(busy, default=None),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuStep:
    """The cards of a step; one that both roles have counts for both, and what was not read is missing."""

    by_role: dict[str, GpuUse] = field(default_factory=dict)
    by_phase: dict[GpuPhase, GpuUse] = field(default_factory=dict)
    is_shared: bool = False  # both roles have the same cards
    allocated_bytes: int | None = None  # most that PyTorch's allocator gave out in the update, on the fullest rank
    reserved_bytes: int | None = None  # most that it held, cached blocks included

    @classmethod
    def of(cls, uses: Iterable[CardUse]) -> GpuStep:
        given = tuple(uses)
        roles = {role: [one for one in given if role in one.roles] for role in GPU_ROLES}
        phases = {phase: [one for one in given if one.phase is phase] for phase in GpuPhase}
        return cls(
            by_role={role: GpuUse.of(found) for role, found in roles.items() if found},
            by_phase={phase: GpuUse.of(found) for phase, found in phases.items() if found},
            is_shared=bool(given) and all(set(one.roles) == set(GPU_ROLES) for one in given),
        )

    def values(self) -> dict[str, float | None]:
        """The record's fields, without their prefix `gpu_`."""
        found: dict[str, float | None] = {}
        for role, use in self.by_role.items():
            found |= {
                f"{role}_memory_bytes": use.memory_bytes,
                f"{role}_total_bytes": use.total_bytes,
                f"{role}_busy_share": use.busy_share,
                f"{role}_busy_peak_share": use.busy_peak_share,
            }
        for phase, use in self.by_phase.items():
            found |= {f"{phase}_memory_bytes": use.memory_bytes, f"{phase}_busy_share": use.busy_share}
        if self.allocated_bytes is not None:
            found |= {"learner_allocated_bytes": self.allocated_bytes, "learner_reserved_bytes": self.reserved_bytes}
        return found


def with_allocator(gpus: GpuStep | None, report: StepReport) -> GpuStep | None:
    """Add what PyTorch's allocator counted in the update, where the learner has a card."""
    if report.allocated_peak_bytes is None:
        return gpus
    return replace(
        gpus or GpuStep(),
        allocated_bytes=report.allocated_peak_bytes,
        reserved_bytes=report.reserved_peak_bytes,
    )
