"""The GRPO learner: scored groups in, one policy update and a report out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from floe.cluster.messages import (
    AdapterManifest,
    EqualityReport,
    LearnerRank,
    PromptWithAnswers,
    ScoredGroup,
    StepReport,
    WarmStartExample,
)
from floe.configs.schema import RunConfig
from floe.configs.sections.colocation import TAKE_TURNS, Colocation
from floe.learner.adapter.export import AdapterExport
from floe.learner.adapter.files import read_adapter, write_adapter
from floe.learner.answer_groups import answer_groups
from floe.learner.equality.start_check import check_policy
from floe.learner.family_plugin import family_of
from floe.learner.loss.grpo_loss import LossTerms, grpo_loss
from floe.learner.loss.offenders import largest_losses
from floe.learner.loss.training_groups import training_groups
from floe.learner.optimizer.allocator_peaks import AllocatorPeaks, forget_peaks
from floe.learner.optimizer.deepspeed_engine import DeepSpeedEngine, training_device
from floe.learner.optimizer.frozen_weights import FrozenWeights, give_back_cached_blocks
from floe.learner.optimizer.schedule import learning_rate
from floe.learner.packing.packs import Pack, PrefixGroup, empty_pack
from floe.learner.packing.rank_balance import RankShare, rank_share
from floe.learner.policy.adapter_dropout import AdapterDropout
from floe.learner.policy.policy import (
    POLICY,
    adapter_tensors,
    answer_logprobs,
    build_policy,
    packed_logprobs,
    probe_tensors,
    reference_logprobs,
    text_logprobs,
)
from floe.learner.step_meter import StepMeter
from floe.learner.supervised_term import add_cross_entropy


class GrpoLearner:
    """Owns the policy, the optimiser and the adapter's way out.

    `put_blob` stores a uint8 array where the rollout actors can reach it and returns the reference. With several ranks
    each process has a learner, and all make the same calls of `update` with the same groups.
    """

    def __init__(
        self,
        config: RunConfig,
        model_dir: Path,
        initial_adapter: Path | None,
        put_blob: Callable[[np.ndarray], Any],
        rank: LearnerRank | None = None,
    ) -> None:
        torch.set_num_threads(config.learner.num_threads or torch.get_num_threads())
        self._config = config
        self._model_dir = model_dir
        self._put_blob = put_blob
        initial = None if initial_adapter is None else read_adapter(initial_adapter, config.lora)
        offloads, algorithm = config.cluster.colocation is Colocation.LEARNER_OFFLOADS, config.algorithm
        policy = build_policy(
            model_dir,
            config.model,
            config.lora,
            dropout=config.lora.dropout,
            seed=config.run.seed,
            initial=initial,
            with_reference=algorithm.kl_coefficient > 0 and algorithm.kl_reference == "initial",
            gradient_checkpointing=config.learner.gradient_checkpointing,
            # Loaded straight to a GPU, they lie in one block of memory, which can only be given back as a whole.
            device=None if offloads else training_device(),
            family=family_of(config.model, config.run.plugin_folder),
        )
        policy.train()
        self._dropout = AdapterDropout(policy, POLICY, config.run.seed)
        self._engine = DeepSpeedEngine(policy, config.learner, config.model.dtype, rank)
        self._export = AdapterExport(config.lora, config.rollout.dtype, adapter_tensors(self._policy))
        self._base = FrozenWeights(self._policy) if offloads else None
        self._num_steps_done = 0
        self._rate_factor = 1.0

    def update(
        self, step: int, groups: Sequence[ScoredGroup], supervised: Sequence[WarmStartExample] = ()
    ) -> StepReport:
        """Make one GRPO step over the groups, in `updates_per_batch` optimiser steps.

        Each of these adds `supervised_coefficient` times the mean cross-entropy per token of the answers in
        `supervised`, without dropout; with them a step without useful groups has one optimiser step. Raises
        FloatingPointError naming the step, the questions and those of the largest losses when loss or gradient is not
        finite.
        """
        config = self._config
        meter = StepMeter()
        forget_peaks(self._policy.device)
        useful = training_groups(
            groups,
            config.algorithm,
            config.rollout.max_new_tokens,
            by_size=config.rollout.has_unequal_groups,
        )
        temperature = groups[0].rollout.temperature
        rate = self._learning_rate()
        answers = self._share(answer_groups(supervised))
        parts = [self._share(part) for part in self._parts(useful, num_least=min(1, answers.num_rounds))]
        # Old log-probabilities are those before the first update, without dropout. With a single update and no dropout
        # they are the detached current ones, which saves a forward pass.
        old = None
        if len(parts) > 1 or self._dropout.is_used:
            old = [[self._old_logprobs(pack, temperature) for pack in part.packs] for part in parts]
        for number, part in enumerate(parts):
            try:
                drawn = partial(self._dropout.drawn, step, number)
                old_of_part = None if old is None else old[number]
                norm = self._optimise(part, answers, old_of_part, meter, len(parts), rate, temperature, drawn)
                meter.grad_norms.append(norm)
            except FloatingPointError as fault:
                names = ", ".join(group.rollout.question.question_id for group in groups)
                raise FloatingPointError(f"step {step}: {fault}; questions of the batch: {names}") from fault
        self._num_steps_done += 1
        meter.peaks = AllocatorPeaks.of(self._policy.device)
        whole = StepMeter.joined(self._engine.gather(meter))
        return whole.report(step=step, learning_rate=rate, num_groups=len(useful))

    def acquire(self) -> None:
        """Bring the base weights back to the device."""
        if self._base is not None:
            self._base.to_device()

    def release(self) -> None:
        """Move the base weights to the host until `acquire`, where learner and engine take turns with them."""
        if self._base is not None:
            self._base.to_host()
        if self._config.cluster.colocation in TAKE_TURNS:
            give_back_cached_blocks()

    def export_adapter(self, version: int) -> AdapterManifest:
        """Put the adapter into the object store; return what it must look like when it arrives."""
        return self._export(adapter_tensors(self._policy), version, self._put_blob)

    def export_probe(self, version: int) -> AdapterManifest:
        """Export an adapter with large weights, the same each time, in place of the policy's own."""
        return self._export(probe_tensors(adapter_tensors(self._policy)), version, self._put_blob)

    @torch.no_grad()
    def canary_logprobs(self, token_ids: Sequence[int], with_adapter: bool) -> list[float]:
        """Return [T - 1] of every token but the first, at temperature 1; without the adapter that of the base model."""
        if with_adapter:
            return text_logprobs(self._policy, token_ids)
        with self._policy.disable_adapter():
            return text_logprobs(self._policy, token_ids)

    @torch.no_grad()
    def answer_logprobs(self, text: PromptWithAnswers) -> list[list[float]]:
        """Return [answers][tokens] of answers to a prompt, at temperature 1."""
        return answer_logprobs(self._policy, text.prompt_token_ids, text.answers)

    def check_equality(self, texts: Sequence[PromptWithAnswers], limit_s: float) -> EqualityReport:
        """Compare this learner's way with the model's own forward. Raises UserError where they differ.

        `texts` are two or more, the longest first. Where the whole would take longer than `limit_s`, the gradients are
        compared on the shorter texts alone. The longest is then cut to what every window of the model needs.
        """
        config = self._config
        max_pack_tokens = config.learner.max_pack_tokens
        return check_policy(self._policy, texts, config.model.max_context_tokens, limit_s, max_pack_tokens)

    def save_adapter(self, folder: Path) -> None:
        write_adapter(folder, self._export.blob(adapter_tensors(self._policy)), self._config.lora, self._model_dir)

    def save_state(self, folder: Path) -> None:
        """Write optimiser and position to this rank's file; on a CPU `load_state` continues bit for bit.

        Raises OSError.
        """
        self._engine.save_state(folder, self._num_steps_done)

    def load_state(self, folder: Path) -> None:
        """Read a saved state; the learner must be made as the one that saved it.

        The KL reference is its initial adapter, as at the start. Raises UserError when the state is damaged or another
        learner's.
        """
        self._num_steps_done = self._engine.load_state(folder)

    def continue_at(self, num_steps_done: int, rate_factor: float) -> None:
        """Set the position in the learning rate's schedule, and the factor of every later rate."""
        self._num_steps_done = num_steps_done
        self._rate_factor = rate_factor

    @property
    def _policy(self) -> PeftModel:
        return self._engine.module  # type: ignore[return-value]

    def _learning_rate(self) -> float:
        settings = self._config.learner
        return self._rate_factor * learning_rate(
            self._num_steps_done,
            self._config.run.num_steps,
            settings.learning_rate,
            settings.warmup_share,
            settings.schedule,
            settings.min_learning_rate_share,
        )

    def _parts(self, groups: list[PrefixGroup], *, num_least: int) -> list[list[PrefixGroup]]:
        num_parts = max(num_least, min(self._config.learner.updates_per_batch, len(groups)))
        return [groups[part::num_parts] for part in range(num_parts)]

    def _share(self, groups: list[PrefixGroup]) -> RankShare:
        engine, settings = self._engine, self._config.learner
        size = settings.max_pack_tokens
        share = rank_share(groups, size, engine.rank_index, engine.num_ranks, settings.max_pack_groups)
        return replace(share, packs=tuple(pack.to(self._policy.device) for pack in share.packs))

    @torch.no_grad()
    def _old_logprobs(self, pack: Pack, temperature: float) -> torch.Tensor:
        return packed_logprobs(self._policy, pack, temperature)

    def _optimise(
        self,
        share: RankShare,
        answers: RankShare,
        old_logprobs: list[torch.Tensor] | None,
        meter: StepMeter,
        loss_scale: float,
        rate: float,
        temperature: float,
        drawn: Callable[[int], AbstractContextManager[None]],
    ) -> float:
        done: list[LossTerms] = []
        last = share.num_rounds + answers.num_rounds - 1
        try:
            for number in range(share.num_rounds):
                is_idle = number >= len(share.packs)
                pack = empty_pack().to(self._policy.device) if is_idle else share.packs[number]
                old = None if is_idle or old_logprobs is None else old_logprobs[number]
                with nullcontext() if is_idle else drawn(share.numbers[number]):
                    terms = self._loss_terms(pack, old, temperature)
                    if not is_idle:
                        done.append(replace(terms, loss=terms.loss.detach()))
                    self._check_finite(terms.loss)
                    self._engine.backward(terms.loss * loss_scale, last=number == last)
                if not is_idle:
                    meter.add(pack, done[-1])
            if answers.num_rounds:
                coefficient = self._config.algorithm.supervised_coefficient
                meter.supervised.append(add_cross_entropy(self._engine, self._policy, answers, coefficient))
            return self._engine.step(rate)
        except FloatingPointError as fault:
            # Every rank is here, because all found the fault together.
            named = self._engine.gather(largest_losses(share.packs[: len(done)], done))
            offenders = ", ".join(filter(None, named))
            raise FloatingPointError(f"{fault}; largest losses of a completion: {offenders}") from fault

    def _check_finite(self, loss: torch.Tensor) -> None:
        bad = [value for value in self._engine.gather(loss.item()) if not math.isfinite(value)]
        if bad:
            raise FloatingPointError(f"the loss is {bad[0]}")

    def _loss_terms(self, pack: Pack, old_logprob: torch.Tensor | None, temperature: float) -> LossTerms:
        algorithm = self._config.algorithm
        reference = None
        if algorithm.kl_coefficient > 0:
            # The reference is another adapter or none: the dropout that may be on here is not in its pass.
            reference = reference_logprobs(self._policy, pack, temperature)
        logprob = packed_logprobs(self._policy, pack, temperature)
        return grpo_loss(
            logprob=logprob,
            old_logprob=logprob.detach() if old_logprob is None else old_logprob,
            engine_logprob=pack.engine_logprob,
            advantage=pack.advantage,
            weight=pack.weight,
            clip_low=algorithm.clip_low,
            clip_high=algorithm.clip_high,
            importance_cap=algorithm.importance_cap,
            reference_logprob=reference,
            kl_coefficient=algorithm.kl_coefficient,
            loss=algorithm.loss,
            importance=algorithm.importance,
            sequence=pack.sequence,
        )
