"""Plans the seconds of a run on a GPU from its published peaks and assumed shares of them (pure)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from floe.cluster.memory_plan.shapes.model_shape import ModelShape
from floe.cluster.time_plan.named_cards import GIGA, TERA, NamedCard
from floe.cluster.time_plan.plan import (
    EVALUATION_REST_S,
    STEP_REST_S,
    Constants,
    TimePlan,
    assembled,
    forward_flop,
    repeated_passes,
    update_flop,
)
from floe.cluster.time_plan.sentences import plan_sentence
from floe.cluster.time_plan.tokens import Generated, RunTokens, Trained
from floe.configs.schema import RunConfig

# Assumptions, printed with every plan: no run on a GPU has corrected them.
LEARNER_PEAK_SHARE = 0.3  # share of the peak that an update's products reach
ENGINE_PEAK_SHARE = 0.4  # share of it that prompts and large batches reach in the engine
ENGINE_BANDWIDTH_SHARE = 0.6  # share of the memory's bandwidth at which a decoding pass reads weights and cache
PACK_LAYER_S = 0.003  # seconds of a pack in a layer, in addition to its products
DECODE_PASS_S = 0.006  # seconds of a decoding pass, in addition: scheduling, sampling, the adapter
HOST_BYTES_PER_S = 12e9  # between card and host, where engine and learner take turns
START_S = 300.0  # seconds of a start, in which the engine compiles and captures its graphs
LEARNER_START_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSpeed:
    """Speed that `make prove-gpu` measured on such a card."""

    matmul_flop_per_s: float
    learner_share: float  # share of the measured rate that an update reached
    measured_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CardTime:
    """A plan on a card that is not here, with what it assumes, a sentence each."""

    card: NamedCard
    plan: TimePlan
    assumptions: tuple[str, ...]

    @property
    def sentence(self) -> str:
        plan = self.plan
        return (
            f"{plan_sentence(plan)}; a step: generation {plan.generation_s:.1f} s, learning {plan.learning_s:.1f} s, "
            f"the rest {plan.rest_s:.1f} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CardMachine:
    """A model on cards of one kind: `num_engines` and `num_ranks` work side by side."""

    shape: ModelShape
    config: RunConfig
    card: NamedCard
    speed: MeasuredSpeed | None
    extra_passes: float  # factor for passes beyond one forward and one backward

    @property
    def learner_flop_per_s(self) -> float:
        if self.speed is not None:
            return self.speed.matmul_flop_per_s * self.speed.learner_share
        return LEARNER_PEAK_SHARE * self.card.flop_per_s(self.config.model.dtype)

    def update_s(self, work: Trained) -> float:
        """Return seconds of forward and backward passes over the packs of `work`, shared by the ranks."""
        learner = self.config.learner
        flops = update_flop(self.shape, self.config, work) * self.extra_passes
        num_packs = math.ceil(work.num_tokens / learner.max_pack_tokens)
        per_layer_s = PACK_LAYER_S if self.speed is None else 0.0  # what was measured has it in its share
        packs_s = num_packs * self.shape.num_layers * per_layer_s * self.extra_passes
        return (flops / self.learner_flop_per_s + packs_s) / learner.num_ranks

    def generation_s(self, asked: Generated) -> float:
        """Return seconds of the engines for `asked`: a pass reads weights and cache, or multiplies for longer."""
        if not asked.num_sequences:
            return 0.0
        rollout, shape, dtype = self.config.rollout, self.shape, self.config.rollout.dtype
        of_engine = asked.num_sequences / rollout.num_actors
        num_at_once = min(of_engine, rollout.max_num_seqs)
        num_passes = of_engine * asked.mean_tokens / num_at_once + (asked.max_tokens - asked.mean_tokens)
        flop_per_s = ENGINE_PEAK_SHARE * self.card.flop_per_s(dtype)
        prompt_s = asked.num_prompt_tokens / rollout.num_actors * forward_flop(shape) / flop_per_s
        token_flop = forward_flop(shape) + 2 * shape.hidden * shape.vocabulary
        prompt_tokens = asked.num_prompt_tokens / asked.num_sequences * rollout.group_size
        cached = num_at_once * (prompt_tokens + asked.mean_tokens / 2)
        num_bytes = shape.weight_bytes(dtype) + cached * shape.kv_bytes_per_token(dtype)
        read_s = num_bytes / (ENGINE_BANDWIDTH_SHARE * self.card.bytes_per_s)
        return prompt_s + num_passes * (max(read_s, num_at_once * token_flop / flop_per_s) + DECODE_PASS_S)


def plan_on_card(
    config: RunConfig,
    shape: ModelShape,
    card: NamedCard,
    asked: RunTokens,
    *,
    speed: MeasuredSpeed | None,
    takes_turns: bool,
) -> TimePlan:
    """Plan a whole run; with `takes_turns` the weights go to the host and come back in every step."""
    machine, supervised = (
        CardMachine(shape=shape, config=config, card=card, speed=speed, extra_passes=passes)
        for passes in (repeated_passes(config), 1 + config.learner.gradient_checkpointing / 2)
    )
    moved = 2 * shape.weight_bytes(config.rollout.dtype) if takes_turns else 0
    constants = Constants(
        start_s=START_S,
        learner_start_s=LEARNER_START_S,
        step_rest_s=STEP_REST_S + moved / HOST_BYTES_PER_S,
        evaluation_rest_s=EVALUATION_REST_S,
        slowdown=1.0,
    )
    return assembled(config, asked, machine, supervised, constants)


def assumptions(card: NamedCard, config: RunConfig, speed: MeasuredSpeed | None) -> list[str]:
    """Return the assumptions of a plan, a sentence each."""
    types = config.model.dtype, config.rollout.dtype
    learner, engine = (f"{card.flop_per_s(one) / TERA:g} TFLOP/s in {one}" for one in types)
    if speed is None:
        of_learner = (
            f"the learner reaches {LEARNER_PEAK_SHARE:.0%} of a peak of {learner}, and takes {1000 * PACK_LAYER_S:g} "
            "ms a pack and layer in addition"
        )
    else:
        of_learner = (
            f"the learner reaches {speed.learner_share:.0%} of {speed.matmul_flop_per_s / TERA:.0f} TFLOP/s, measured "
            f"by make prove-gpu on {speed.measured_on}"
        )
    return [
        of_learner,
        f"the engine reaches {ENGINE_PEAK_SHARE:.0%} of a peak of {engine}, and {ENGINE_BANDWIDTH_SHARE:.0%} of "
        f"{card.bytes_per_s / GIGA:,.0f} GB/s, and takes {1000 * DECODE_PASS_S:g} ms a pass in addition",
        f"the KV cache holds {config.rollout.max_num_seqs} sequences at once, and engine and learner work one after "
        "the other",
        f"the published peaks are those of {card.source}",
    ]
