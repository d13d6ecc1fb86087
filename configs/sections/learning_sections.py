"""Sections for learning: adapter, optimiser, algorithm."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from floe.configs.sections.bounds import (
    MAX_COUNT,
    MAX_FACTOR,
    MAX_PARALLEL,
    MAX_TEXT_CHARACTERS,
    MAX_TOKENS,
    refused_resources,
)
from floe.configs.sections.resume_rule import Fixed, Free, NearlyFree

SEVEN_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FUSED_PROJECTIONS = ("qkv_proj", "gate_up_proj")  # of Phi-3 and Phi-4, in addition to o_proj and down_proj
ADAPTABLE = SEVEN_PROJECTIONS + FUSED_PROJECTIONS
VLLM_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
Beta = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_max_length=MAX_TEXT_CHARACTERS)


class LoraSection(Section):
    rank: Fixed[int] = Field(
        16, description="Rank of the adapter, one that vLLM has a slot for: 1, 8, 16, 32, 64, 128, 256, 320 or 512."
    )
    alpha: Fixed[int] = Field(
        32, ge=1, le=MAX_PARALLEL, description="The adapter's product is scaled by alpha over rank."
    )
    dropout: Fixed[float] = Field(
        0.0,
        ge=0,
        lt=1,
        description="Dropout of the adapter's inputs, in the pass of GRPO's updates that carries the gradient alone.",
    )
    target_modules: Fixed[tuple[str, ...]] = Field(
        SEVEN_PROJECTIONS, description="Linear layers with an adapter, by the last part of their names."
    )
    initial_adapter: Fixed[str | None] = Field(
        None,
        description="Adapter that training starts from: a PEFT folder, a run's folder or a hub name. With it the warm "
        "start is off, unless warm_start.enabled is set.",
    )

    @field_validator("initial_adapter")
    @classmethod
    def _names_something(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError(
                "lora.initial_adapter is empty: give the folder of an adapter or of a run, a name on the hub, or leave "
                "it out"
            )
        return value

    @field_validator("target_modules")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) < len(value):
            what = f"names {max(value, key=value.count)!r} twice" if value else "is empty, so that nothing would learn"
            raise ValueError(f"lora.target_modules {what}: name each of some of {ADAPTABLE} once, or leave it out")
        return value

    @model_validator(mode="after")
    def _served_by_vllm(self) -> Self:
        if self.rank not in VLLM_LORA_RANKS:
            raise ValueError(f"lora.rank is {self.rank}, which vLLM has no slot for: use one of {VLLM_LORA_RANKS}")
        unknown = sorted(set(self.target_modules) - set(ADAPTABLE))
        if unknown:
            raise ValueError(
                f"lora.target_modules names {unknown}, which floe can't broadcast: use some of {ADAPTABLE}"
            )
        return self


class LearnerSection(Section):
    num_ranks: Fixed[int] = Field(1, ge=1, le=MAX_PARALLEL, description="Processes that share each update's packs.")
    learning_rate: Fixed[float] = Field(3e-5, gt=0, le=1, description="Highest learning rate of GRPO's updates.")
    adam_betas: Fixed[tuple[Beta, Beta]] = Field((0.9, 0.999), description="Decay rates of AdamW's two moments.")
    weight_decay: Fixed[float] = Field(0.01, ge=0, le=1, description="Weight decay of AdamW.")
    max_grad_norm: Fixed[float] = Field(1.0, gt=0, le=MAX_FACTOR, description="Norm that the gradient is clipped to.")
    warmup_share: Fixed[float] = Field(
        0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises."
    )
    schedule: Fixed[Literal["cosine", "constant"]] = Field(
        "cosine", description="Course of the learning rate after that."
    )
    min_learning_rate_share: Fixed[float] = Field(
        0.1, ge=0, le=1, description="Where `cosine` ends, as a share of learning_rate."
    )
    zero_stage: Fixed[Literal["auto", 0, 1, 2]] = Field(
        "auto", description="`auto`: 2, but for one rank on the CPU the lowest that its precision allows."
    )
    offload_optimizer: Fixed[bool] = Field(False, description="Keep the optimiser's state in the host's memory.")
    gradient_checkpointing: NearlyFree[bool] = Field(
        False, description="Compute activations again in the backward pass: less memory, more time."
    )
    updates_per_batch: Fixed[int] = Field(
        1, ge=1, le=MAX_COUNT, description="Optimiser steps that the groups of one step are split into."
    )
    max_pack_tokens: NearlyFree[int] = Field(
        2048, ge=64, le=MAX_TOKENS, description="Tokens of one packed micro-batch."
    )
    max_pack_groups: NearlyFree[int | None] = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="Groups of one packed micro-batch of GRPO; left out, as many as its tokens allow.",
    )
    num_cpus: Free[float] = Field(0.5, ge=0, le=MAX_PARALLEL, description="Ray CPUs reserved per rank.")
    num_gpus: NearlyFree[float] = Field(
        0.0,
        ge=0,
        le=MAX_PARALLEL,
        description="Share of a GPU reserved per rank; several ranks with less than 1 form pairs with the engines.",
    )
    num_threads: NearlyFree[int] = Field(
        0, ge=0, le=MAX_PARALLEL, description="Threads of a rank; 0 divides every core that the process may use."
    )

    @model_validator(mode="after")
    def _ray_can_reserve_it(self) -> Self:
        if why := refused_resources("learner", num_cpus=self.num_cpus, num_gpus=self.num_gpus):
            raise ValueError(why)
        return self

    def decided_zero_stage(self, dtype: str) -> int:
        """Return ZeRO's stage for weights of `dtype`; each stage copies and flattens gradients more than the one below.

        One rank has nothing to split. On a GPU stage 2 stays, for its smaller bucket.
        """
        if self.zero_stage != "auto":
            return self.zero_stage
        if self.num_ranks > 1 or self.num_gpus > 0 or self.offload_optimizer:
            return 2
        return 0 if dtype == "float32" else 1  # below 1 DeepSpeed keeps no float32 master


class AlgorithmSection(Section):
    loss: Fixed[Literal["grpo", "gspo", "cispo"]] = Field(
        "grpo",
        description="`gspo` clips the ratio of whole sequences and wants clips near 3e-4; `cispo` clips weights.",
    )
    advantage_scale: Fixed[Literal["none", "std", "batch"]] = Field("none", description="`none` is Dr. GRPO's.")
    advantage_terms: Fixed[Literal["sum", "gdpo"]] = Field(
        "sum",
        description="`sum` takes advantages of the whole reward; `gdpo` normalises each term within its group, adds "
        "them by their weights and normalises over the batch "
        "(for designs with terms; takes the place of advantage_scale).",
    )
    drop_groups_without_match: Fixed[bool] = Field(
        False, description="Leave out groups in which no candidate is right."
    )
    max_refill_rounds: Fixed[int] = Field(
        0,
        ge=0,
        le=MAX_COUNT,
        description="Dynamic sampling: how often a step may ask further questions for groups that carry no gradient.",
    )
    clip_low: Fixed[float] = Field(0.2, gt=0, lt=1, description="The ratio is clipped at 1 minus this.")
    clip_high: Fixed[float] = Field(0.2, gt=0, le=MAX_FACTOR, description="The ratio is clipped at 1 plus this.")
    loss_aggregation: Fixed[Literal["token", "sequence", "dr_grpo"]] = Field(
        "token",
        description="`token`: the mean over tokens; `sequence`: over the means of completions; `dr_grpo`: the sum over "
        "completions times rollout.max_new_tokens.",
    )
    kl_coefficient: Fixed[float] = Field(
        0.001, ge=0, le=MAX_FACTOR, description="Weight of the KL term to the reference; at 0 it is not computed."
    )
    kl_reference: Fixed[Literal["initial", "base"]] = Field(
        "initial",
        description="Reference of the KL term: `initial` is the policy before GRPO's first step, after a warm start or "
        "with lora.initial_adapter the adapter, otherwise the base model; `base` is the base model in any case.",
    )
    importance: Fixed[Literal["truncate", "mask_sequence", "none"]] = Field(
        "truncate",
        description="Of the learner's over the engine's probability: per token, cut at the cap; or per sequence, which "
        "is dropped outside [1 / cap, cap].",
    )
    importance_cap: Fixed[float] = Field(
        2.0, gt=0, le=MAX_FACTOR, description="Cap of the importance weight (engine to learner)."
    )
    overlong: Fixed[Literal["keep", "mask", "punish"]] = Field(
        "keep", description="Truncated completions: `mask` leaves them out; `punish` takes up to 1 off near the limit."
    )
    overlong_buffer_tokens: Fixed[int] = Field(
        0, ge=0, le=MAX_TOKENS, description="Tokens before the limit over which `punish` sets in."
    )
    supervised_coefficient: Fixed[float] = Field(
        0.0,
        ge=0,
        le=MAX_FACTOR,
        description="Weight of a supervised term, the mean cross-entropy of a drawn batch of answers, in each "
        "optimiser step; at 0 it is not computed.",
    )
    supervised_questions: Fixed[int] = Field(
        8, ge=1, le=MAX_COUNT, description="Answers of that batch, one draw for each step."
    )
    supervised_source: Fixed[Literal["golds", "traces"]] = Field(
        "golds", description="What it is drawn from: golds, or traces, made as warm_start.source 'traces' says."
    )

    @model_validator(mode="after")
    def _one_way_of_scaling(self) -> Self:
        if self.advantage_terms == "gdpo" and self.advantage_scale != "none":
            raise ValueError(
                f"algorithm.advantage_scale is {self.advantage_scale!r}, but algorithm.advantage_terms 'gdpo' scales "
                "advantages in its own way: leave advantage_scale at none, or set advantage_terms=sum"
            )
        return self

    @model_validator(mode="after")
    def _refill_has_something_to_replace(self) -> Self:
        if self.max_refill_rounds > 0 and self.kl_coefficient > 0 and not self.drop_groups_without_match:
            raise ValueError(
                f"algorithm.max_refill_rounds is {self.max_refill_rounds}, but with algorithm.kl_coefficient "
                f"{self.kl_coefficient:g} groups of equal rewards carry a gradient too, that of the KL term, and are "
                "not refilled: set kl_coefficient=0 or drop_groups_without_match=true, or leave out the refill"
            )
        return self

    @model_validator(mode="after")
    def _mask_keeps_something(self) -> Self:
        if self.importance == "mask_sequence" and self.importance_cap < 1:
            raise ValueError(
                f"algorithm.importance_cap is {self.importance_cap:g}, but with algorithm.importance 'mask_sequence' "
                "no ratio lies between 1 / cap and a cap below 1: set it to at least 1"
            )
        return self
