"""Sources of a memory plan for this machine: the card, what was measured on it, the host, the learner's work."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ByteSize, TypeAdapter, ValidationError

from floe.cluster.machine.free_memory import free_memory_bytes, total_memory_bytes
from floe.cluster.machine.gpus import GpuReading, read_gpus
from floe.cluster.machine.ray_address import cluster_address
from floe.cluster.memory_plan import MemoryPlan, ModelShape, plan_memory
from floe.cluster.memory_plan.basis import PlanBasis
from floe.cluster.memory_plan.card_sizes import ASSUMED_CARD
from floe.cluster.memory_plan.learner.work import WorkSource
from floe.cluster.memory_plan.measured import read_measured
from floe.cluster.memory_plan.overheads import Overheads
from floe.cluster.memory_plan.shapes.model_config import model_config_of
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The smallest GPU of this machine, read through NVML only: no process but the roles' opens a CUDA context."""

    name: str
    usable_bytes: int
    is_assumed: bool
    overheads: Overheads


def card_of(config: RunConfig, found: GpuReading) -> Card:
    """Return the smallest card that was read, with what was measured on one like it; without any, the assumed one.

    Raises UserError for measurements that can't be read.
    """
    if not found.gpus:
        return Card(
            name=ASSUMED_CARD.name, usable_bytes=ASSUMED_CARD.usable_bytes, is_assumed=True, overheads=Overheads()
        )
    smallest = min(found.gpus, key=lambda one: one.usable_bytes)
    overheads = read_measured(config.run.home_dir, smallest.name) or Overheads()
    return Card(
        name=smallest.name,
        usable_bytes=overheads.usable_bytes or smallest.usable_bytes,
        is_assumed=False,
        overheads=overheads,
    )


def basis_of(config: RunConfig, overheads: Overheads, host_bytes: int | None) -> PlanBasis:
    """Return the basis of a plan; for a run without GPUs the learner's work is bounded, and nothing is pinned."""
    if config.rollout.num_gpus == 0:
        return PlanBasis()
    return PlanBasis(work=_counted_work(config), overheads=overheads, host_bytes=host_bytes)


def plan_at_start(config: RunConfig, shape: ModelShape, budget_bytes: int) -> MemoryPlan:
    """Return the plan of a run that is about to start, within what the host has free.

    The hosts of a joined cluster are others, whose memory is not known here.
    """
    host_bytes = None if cluster_address(config.cluster) is not None else int(free_memory_bytes())
    overheads = card_of(config, read_gpus()).overheads
    return plan_memory(config, shape, budget_bytes, basis_of(config, overheads, host_bytes))


def host_total_bytes(config: RunConfig, card: Card) -> int | None:
    """Return this host's memory; None for a run on another host: there is no card, or a cluster is joined."""
    is_elsewhere = card.is_assumed or cluster_address(config.cluster) is not None
    return None if is_elsewhere else total_memory_bytes()


def _counted_work(config: RunConfig) -> WorkSource | None:
    # Imported late: it takes seconds, and a run without GPUs does not need it.
    from floe.cluster.memory_plan.learner.learner_on_meta import measured_work

    return measured_work(config, model_config_of(config))


def budget_bytes(config: RunConfig, given: str | None) -> int:
    """Return the given bytes, else those of the smallest GPU, else 24 GB; without GPUs those of this machine."""
    if given is not None:
        return _bytes_of(given)
    if config.rollout.num_gpus == 0:
        return total_memory_bytes()
    return card_of(config, read_gpus()).usable_bytes


def _bytes_of(given: str) -> int:
    try:
        found = int(TypeAdapter(ByteSize).validate_python(given))
    except ValidationError:
        found = 0
    if found <= 0:
        raise UserError(f"--gpu-memory is '{given}', which is not an amount of memory: give one like 24GB or 24GiB.")
    return found
