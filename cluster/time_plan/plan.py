"""Plans the seconds of a run's phases from rates and token counts (pure)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Protocol, Self

from floe.cluster.memory_plan.shapes.model_shape import ModelShape
from floe.cluster.time_plan.rates import MachineRates, single_thread_slowdown, slowdown
from floe.cluster.time_plan.tokens import Generated, RunTokens, Trained
from floe.cluster.time_plan.update_flops import ModelSizes, Work, update_flops
from floe.configs.files.foreign_files import parsed_json
from floe.configs.schema import RunConfig

# Assumptions of docs/time.md, beyond the matrix products.
LEARNER_SHARE = 0.65  # share of the measured rate that an update reaches
PACK_LAYER_S = 0.007  # seconds of a pack in a layer, in addition to its products
ENGINE_SHARE = 0.75  # share of the measured rate that a forward pass of the engine reaches
DECODE_LAYER_S = 0.001  # seconds of a token's pass through a layer, for all sequences together
TOKEN_S = 0.2e-3  # seconds of sampling a token, and per word of the vocabulary:
TOKEN_WORD_S = 12e-9
ACTORS_START_S = 30.0  # seconds to start Ray, engine, learner, reward workers
LEARNER_START_S = 15.0  # the warm start's
STEP_REST_S = 2.0  # seconds of rewards, the adapter's way, records, the checkpoint
EVALUATION_REST_S = 3.0
HELD_BACK_SHARE = 0.5  # share of an update's operations that a forward pass without gradients takes


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePlan:
    """Planned seconds; of each step, batch or evaluation where the name says one."""

    start_s: float
    warm_start_s: float
    num_batches: int
    max_batches: int
    batch_s: float
    held_back_s: float
    before_s: float
    num_before: int  # answers
    num_steps: int
    generation_s: float
    learning_s: float
    rest_s: float
    num_interim: int
    interim_s: float
    after_s: float
    num_after: int  # answers
    wave_s: float  # seconds until the first group of a full engine is there
    slowdown: float  # against the reference machine

    @property
    def step_s(self) -> float:
        return self.generation_s + self.learning_s + self.rest_s

    @property
    def steps_s(self) -> float:
        """Seconds of all steps, with the evaluations between them."""
        return self.num_steps * self.step_s + self.num_interim * self.interim_s

    @property
    def evaluations_s(self) -> float:
        return self.before_s + self.after_s

    @property
    def whole_s(self) -> float:
        return self.start_s + self.warm_start_s + self.before_s + self.steps_s + self.after_s

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a plan. Raises ValueError for anything else."""
        try:
            return cls(**parsed_json(text))
        except TypeError as fault:
            raise ValueError(f"no time plan: {fault}") from fault


class Computes(Protocol):
    """Gives the seconds of a role's work."""

    def update_s(self, work: Trained) -> float: ...
    def generation_s(self, asked: Generated) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Seconds of what is neither an update nor generation, and how much slower the machine is than the reference."""

    start_s: float
    learner_start_s: float  # the warm start's
    step_rest_s: float
    evaluation_rest_s: float
    slowdown: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A model on a machine."""

    shape: ModelShape
    config: RunConfig
    rates: MachineRates

    def update_s(self, work: Trained) -> float:
        """Return seconds of forward and backward passes over the packs of `work`, all updates of a batch together."""
        learner = self.config.learner
        flops = update_flop(self.shape, self.config, work) * repeated_passes(self.config)
        num_packs = math.ceil(work.num_tokens / learner.max_pack_tokens)
        packs_s = num_packs * self.shape.num_layers * PACK_LAYER_S * single_thread_slowdown(self.rates)
        # The ranks share the machine's cores, so that several take as long as one.
        return flops / (LEARNER_SHARE * self.rates.learner_flop_per_s) + packs_s

    def generation_s(self, asked: Generated) -> float:
        """Return seconds of an engine for `asked`: prompts, passes for a token of each sequence, tokens."""
        if not asked.num_sequences:
            return 0.0
        shape, thread = self.shape, single_thread_slowdown(self.rates)
        num_at_once = min(asked.num_sequences, self.config.rollout.max_num_seqs)
        num_tokens = asked.num_sequences * asked.mean_tokens
        # An engine that is full until near the end, and the last sequences to their longest.
        num_passes = num_tokens / num_at_once + (asked.max_tokens - asked.mean_tokens)
        token_flop = forward_flop(shape) + 2 * shape.hidden * shape.vocabulary
        flop = asked.num_prompt_tokens * forward_flop(shape) + num_tokens * token_flop
        passes_s = num_passes * shape.num_layers * DECODE_LAYER_S * thread
        sampling_s = num_tokens * (TOKEN_S + TOKEN_WORD_S * shape.vocabulary) * thread
        return flop / (ENGINE_SHARE * self.rates.engine_flop_per_s) + passes_s + sampling_s


def plan_time(config: RunConfig, shape: ModelShape, rates: MachineRates, asked: RunTokens) -> TimePlan:
    """Plan the rest of a run on a machine without GPUs."""
    machine = Machine(shape=shape, config=config, rates=rates)
    thread = single_thread_slowdown(rates)
    # The warm start has neither a KL term nor old log-probabilities.
    plain = config.model_copy(
        update={
            "algorithm": config.algorithm.model_copy(update={"kl_coefficient": 0.0}),
            "learner": config.learner.model_copy(update={"updates_per_batch": 1, "gradient_checkpointing": False}),
            "lora": config.lora.model_copy(update={"dropout": 0.0}),
        }
    )
    supervised = Machine(shape=shape, config=plain, rates=rates)
    constants = Constants(
        start_s=ACTORS_START_S * thread,
        learner_start_s=LEARNER_START_S * thread,
        step_rest_s=STEP_REST_S * thread,
        evaluation_rest_s=EVALUATION_REST_S * thread,
        slowdown=slowdown(rates),
    )
    return assembled(config, asked, machine, supervised, constants)


def assembled(
    config: RunConfig, asked: RunTokens, machine: Computes, supervised: Computes, constants: Constants
) -> TimePlan:
    """Return the plan of a run whose updates `machine` makes, and whose warm start `supervised` does."""
    warm = asked.warm_start
    batch_s = 0.0 if warm is None else supervised.update_s(warm.batch)
    held_back_s = 0.0 if warm is None else supervised.update_s(warm.held_back) * HELD_BACK_SHARE
    warm_start_s = 0.0
    if warm is not None:
        warm_start_s = constants.learner_start_s + warm.num_batches * batch_s + warm.num_evaluations * held_back_s
    term_s = 0.0 if asked.supervised is None else supervised.update_s(asked.supervised)
    full = Generated(
        num_prompt_tokens=config.max_prompt_tokens,
        num_sequences=config.rollout.max_num_seqs,
        mean_tokens=config.rollout.max_new_tokens,
        max_tokens=config.rollout.max_new_tokens,
    )

    def evaluation_s(generated: Generated | None) -> float:
        return 0.0 if generated is None else machine.generation_s(generated) + constants.evaluation_rest_s

    return TimePlan(
        start_s=constants.start_s,
        warm_start_s=warm_start_s + (0.0 if asked.traces is None else machine.generation_s(asked.traces)),
        num_batches=0 if warm is None else warm.num_batches,
        max_batches=0 if warm is None else warm.max_batches,
        batch_s=batch_s,
        held_back_s=held_back_s,
        before_s=evaluation_s(asked.before),
        num_before=0 if asked.before is None else asked.before.num_sequences,
        num_steps=asked.num_steps,
        generation_s=machine.generation_s(asked.step),
        learning_s=machine.update_s(asked.update) + term_s,
        rest_s=constants.step_rest_s,
        num_interim=asked.num_interim,
        interim_s=evaluation_s(asked.interim),
        after_s=evaluation_s(asked.after),
        num_after=0 if asked.after is None else asked.after.num_sequences,
        wave_s=machine.generation_s(full),
        slowdown=constants.slowdown,
    )


def repeated_passes(config: RunConfig) -> float:
    """Return the factor of further passes: a forward pass has a third of the operations of forward and backward."""
    algorithm, learner = config.algorithm, config.learner
    has_old_pass = learner.updates_per_batch > 1 or config.lora.dropout > 0
    forward = (algorithm.kl_coefficient > 0) + has_old_pass + learner.gradient_checkpointing
    return 1 + forward / 2


def update_flop(shape: ModelShape, config: RunConfig, work: Trained) -> int:
    """Return the operations of one forward and backward pass over `work`."""
    return update_flops(_sizes(shape, config), _work(work)).total


def _sizes(shape: ModelShape, config: RunConfig) -> ModelSizes:
    return ModelSizes(
        num_layers=shape.num_layers,
        projections=tuple((one.num_inputs, one.num_outputs) for one in shape.projections),
        lora_weights=shape.num_adapter_parameters(config.lora.rank, config.lora.target_modules) // shape.num_layers,
        attention_width=shape.num_heads * shape.head_size,
        hidden=shape.hidden,
        vocabulary=shape.vocabulary,
    )


def _work(work: Trained) -> Work:
    return Work(num_tokens=round(work.num_tokens), num_scored=round(work.num_scored), num_pairs=round(work.num_pairs))


def forward_flop(shape: ModelShape) -> int:
    """Return operations of a token's projections in all layers."""
    return 2 * sum(one.count * one.num_inputs * one.num_outputs for one in shape.projections)
