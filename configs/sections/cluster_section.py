"""The section `cluster`: the Ray cluster of a run and its limits of time and memory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from floe.configs.sections.addresses import is_host_and_port
from floe.configs.sections.bounds import MAX_GIB, MAX_PORT, MAX_S
from floe.configs.sections.colocation import Colocation
from floe.configs.sections.learning_sections import Section
from floe.configs.sections.resume_rule import Free


class ClusterSection(Section):
    address: Free[str] = Field(
        "auto", description="`auto`: the running cluster or an own local one; `local`; or host:port."
    )
    dashboard_port: Free[int | None] = Field(
        None, ge=1, le=MAX_PORT, description="Dashboard port of the own local Ray; left out, there is no dashboard."
    )
    colocation: Free[Colocation | Literal["auto"]] = Field(
        "auto",
        description="How engine and learner share a GPU: `resident`, `engine_sleeps` or `learner_offloads`; `auto` "
        "takes the first of them that fits by the memory plan.",
    )
    start_timeout_s: Free[float | None] = Field(
        None,
        gt=0,
        le=MAX_S,
        description="Limit for actors to be placed and ready; left out, 300, and 1800 for a run that asks for GPUs.",
    )
    step_timeout_s: Free[float] = Field(
        3600.0,
        gt=0,
        le=MAX_S,
        description="Limit for each answer of the learner: an update, an export, a warm start's batch or evaluation.",
    )
    min_free_memory_gib: Free[float] = Field(
        4.0, ge=0, le=MAX_GIB, description="Free memory of the machine in GiB without which no run starts."
    )

    @field_validator("address")
    @classmethod
    def _an_address_of_ray(cls, value: str) -> str:
        if value not in ("auto", "local") and not is_host_and_port(value):
            raise ValueError(
                f"cluster.address is {value!r}: use 'auto', 'local' or host:port, as ray start printed it, with a port "
                f"from 1 to {MAX_PORT}"
            )
        return value
