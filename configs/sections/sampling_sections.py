"""Sections that say how candidates are sampled: in training, and in an evaluation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from floe.configs.sections.bounds import (
    MAX_COUNT,
    MAX_GIB,
    MAX_PARALLEL,
    MAX_S,
    MAX_TEMPERATURE,
    MAX_TOKENS,
    MIN_TEMPERATURE,
    refused_resources,
)
from floe.configs.sections.learning_sections import Section
from floe.configs.sections.resume_rule import Fixed, Free, NearlyFree

MAX_GROUP_SIZE = 64


class RolloutSection(Section):
    num_actors: NearlyFree[int] = Field(
        1, ge=1, le=MAX_PARALLEL, description="Rollout actors, each with a vLLM engine."
    )
    group_size: Fixed[int] = Field(16, ge=1, le=MAX_GROUP_SIZE, description="Candidates per question.")
    min_group_size: Fixed[int | None] = Field(
        None,
        ge=2,
        le=MAX_GROUP_SIZE,
        description="With rollout.max_group_size: a step's candidates are spread so that rare successes get larger "
        "groups, rollout.group_size on average; left out, all groups are equal.",
    )
    max_group_size: Fixed[int | None] = Field(
        None, ge=2, le=MAX_GROUP_SIZE, description="Most candidates of a question; see rollout.min_group_size."
    )
    questions_per_step: Fixed[int] = Field(
        8, ge=1, le=MAX_COUNT, description="Questions of one step, each with a group of candidates."
    )
    temperature: Fixed[float] = Field(
        0.8, ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE, description="Temperature that candidates are sampled at."
    )
    max_new_tokens: Fixed[int] = Field(64, ge=1, le=MAX_TOKENS, description="Longest completion, in tokens.")
    max_staleness: Fixed[int] = Field(0, ge=0, le=8, description="Steps that generation runs ahead; 0 is synchronous.")
    adapter_transport: Free[Literal["auto", "memory", "folder"]] = Field(
        "auto",
        description="Way into the engine: from memory where the vLLM version is known, else by folders in /dev/shm.",
    )
    dtype: Fixed[Literal["auto", "bfloat16", "float32"]] = Field(
        "auto", description="The engine computes in it; `auto` is the learner's, unless another is clearly faster."
    )
    kv_cache_gib: NearlyFree[int] = Field(
        2, ge=1, le=MAX_GIB, description="Memory of the engine's KV cache on CPU, in GiB."
    )
    gpu_memory_share: NearlyFree[float] = Field(0.45, gt=0, le=1, description="Share of the GPU given to the engine.")
    max_num_seqs: NearlyFree[int] = Field(
        256, ge=1, le=MAX_COUNT, description="Most sequences that an engine works on at a time."
    )
    num_cpus: Free[float] = Field(0.5, ge=0, le=MAX_PARALLEL, description="Ray CPUs reserved per actor.")
    num_gpus: NearlyFree[float] = Field(
        0.0, ge=0, le=MAX_PARALLEL, description="Share of a GPU reserved per actor; at most 1."
    )
    num_threads: NearlyFree[int] = Field(
        0, ge=0, le=MAX_PARALLEL, description="Threads of the engine; 0 is every core that the process may use."
    )
    stuck_after_s: Free[float] = Field(
        900.0,
        gt=0,
        le=MAX_S,
        description="An actor that finishes no group, or gives no other answer, for so long is replaced.",
    )

    @model_validator(mode="after")
    def _group_sizes_are_a_range(self) -> Self:
        smallest, largest = self.min_group_size, self.max_group_size
        if (smallest is None) != (largest is None):
            given, missing = ("min", "max") if largest is None else ("max", "min")
            raise ValueError(
                f"rollout.{given}_group_size is set, but rollout.{missing}_group_size is not: give both, around "
                f"rollout.group_size, {self.group_size}, or neither"
            )
        if smallest is not None and largest is not None and not smallest <= self.group_size <= largest:
            raise ValueError(
                f"rollout.group_size is {self.group_size}, but it is the mean of groups of rollout.min_group_size, "
                f"{smallest}, to rollout.max_group_size, {largest}: give bounds with {self.group_size} between them"
            )
        return self

    @model_validator(mode="after")
    def _ray_can_reserve_it(self) -> Self:
        if why := refused_resources("rollout", num_cpus=self.num_cpus, num_gpus=self.num_gpus):
            raise ValueError(why)
        return self

    @property
    def has_unequal_groups(self) -> bool:
        return self.smallest_group < self.largest_group

    @property
    def smallest_group(self) -> int:
        return self.group_size if self.min_group_size is None else self.min_group_size

    @property
    def largest_group(self) -> int:
        """Most candidates that a group may have."""
        return self.group_size if self.max_group_size is None else self.max_group_size

    @property
    def num_live_adapters(self) -> int:
        """Number of versions that may still be asked for, the one being installed included."""
        return self.max_staleness + 2


class EvaluationSection(Section):
    enabled: Free[bool] = Field(True, description="Whether the run is evaluated before and after.")
    split: Free[Literal["train", "tune", "test"]] = Field("test", description="Questions that are asked.")
    num_samples: Free[int] = Field(8, ge=1, le=MAX_PARALLEL, description="Samples per question, for mean@k and pass@k.")
    temperature: Free[float] = Field(
        0.8, ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE, description="Temperature of these samples."
    )
    max_questions: Free[int] = Field(100_000, ge=1, le=MAX_COUNT, description="Most questions that are asked.")
    choice: Free[Literal["first", "spread"]] = Field(
        "first",
        description="Which ones where there are more: the first, or ones at equal distances, from all the databases of "
        "a set in that order.",
    )
    include_base: Free[bool] = Field(True, description="Evaluate the base model too.")
    include_entropy_control: Free[bool] = Field(
        True,
        description="Evaluate the warm start at the temperature that makes it as sure as the trained policy too.",
    )
    num_bootstrap: Free[int] = Field(10_000, ge=100, le=1_000_000, description="Resamples behind an interval of 95 %.")
    num_timings: Free[int] = Field(
        10,
        ge=0,
        le=1000,
        description="Timings of each right greedy answer and its gold in `floe evaluate`, for R-VES; 0 leaves it out.",
    )
    every_steps: Free[int] = Field(
        0, ge=0, le=MAX_COUNT, description="Steps between greedy evaluations during training; 0 is none."
    )
    num_interim_questions: Free[int] = Field(
        50, ge=1, le=MAX_COUNT, description="Questions of the split `tune`, asked at each of them."
    )
