"""Parts of a plan: what a role holds in a phase of a step, and the result of a placement."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from floe.configs.sections.colocation import Colocation


class Phase(StrEnum):
    GENERATING = "generating"
    LEARNING = "learning"  # updates, export and the learner's canary
    BROADCAST = "broadcast"  # the engine installs the adapter and computes its canary
    WARM_START = "warm start"  # before there is an engine
    EQUALITY = "equality check"  # of the start: the learner's way against the model's own


class Role(StrEnum):
    ENGINE = "engine"
    LEARNER = "learner"
    OTHERS = "others"  # driver, Ray, reward workers: on the host only


class Device(StrEnum):
    SHARED_GPU = "shared_gpu"
    OWN_GPUS = "own_gpus"  # on one that engine and learner never both use
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    role: Role
    name: str
    num_bytes: int  # of all the role's processes on the device


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePlan:
    phase: Phase
    device: Device
    items: tuple[Item, ...]

    def role_bytes(self, role: Role) -> int:
        return sum(item.num_bytes for item in self.items if item.role is role)

    @property
    def num_bytes(self) -> int:
        """Bytes on the device that holds most."""
        by_role = [self.role_bytes(role) for role in Role]
        return max(by_role) if self.device is Device.OWN_GPUS else sum(by_role)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPlan:
    """One placement of the unchanged configuration, with the largest pack and cache that it would have room for."""

    colocation: Colocation
    phases: tuple[PhasePlan, ...]
    budget_bytes: int
    pack_tokens: int  # of the largest pack that the configuration makes
    kv_bytes: int  # of one engine's cache
    min_kv_bytes: int  # needed for one sequence of the whole context, without which vLLM refuses to start
    max_pack_tokens: int
    max_kv_bytes: int
    # pinned on the host, in addition to the GPU: weights that sleep or are offloaded, an offloaded optimiser
    host_bytes: int
    host_limit_bytes: int | None  # what the host has; None where it was not asked

    @property
    def peak_bytes(self) -> int:
        return max(phase.num_bytes for phase in self.phases)

    @property
    def fits(self) -> bool:
        return self.peak_bytes <= self.budget_bytes and self.kv_bytes >= self.min_kv_bytes and self.fits_host

    @property
    def fits_host(self) -> bool:
        return self.host_limit_bytes is None or self.host_bytes <= self.host_limit_bytes

    @property
    def margin_bytes(self) -> int:
        """Bytes left of the device at the peak; a negative value is what is missing."""
        return self.budget_bytes - self.peak_bytes

    @property
    def fullest(self) -> Phase:
        return max(self.phases, key=lambda phase: phase.num_bytes).phase
