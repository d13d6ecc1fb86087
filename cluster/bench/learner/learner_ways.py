"""The learner's two ways of one update over a group: its prompt shared, and every completion with its own prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch

from floe.cluster.bench.learner.learner_cases import TokenGroup
from floe.cluster.bench.learner.learner_figures import SHARED, UNSHARED
from floe.configs.schema import RunConfig
from floe.learner.loss.grpo_loss import grpo_loss
from floe.learner.optimizer.deepspeed_engine import DeepSpeedEngine, training_device
from floe.learner.packing.packs import Branch, Pack, PrefixGroup, make_packs
from floe.learner.policy.policy import build_policy, packed_logprobs

# The policy stays where it is, so that every round computes the same and the ways' losses can be compared.
LEARNING_RATE = 0.0
TEMPERATURE = 1.0


class Way(Protocol):
    """Forward, backward and optimiser step over one group."""

    name: str

    def load(self, group: TokenGroup) -> None: ...

    def warm_up(self) -> None:
        """Make an update of the group's first micro-batch."""

    def update(self) -> float:
        """Make an update of the whole group; return its loss."""


class PackedWay:
    """The learner's path: packs, log-probabilities of the scored tokens, loss, DeepSpeed.

    The loss is CISPO's, whose value depends on the log-probabilities; GRPO's at the start of a batch does not.
    """

    def __init__(self, name: str, engine: DeepSpeedEngine, config: RunConfig, *, is_shared: bool) -> None:
        self.name = name
        self._engine = engine
        self._config = config
        self._is_shared = is_shared
        self._groups: list[PrefixGroup] = []

    def load(self, group: TokenGroup) -> None:
        num_tokens = sum(len(completion) for completion in group.completions)
        branches = tuple(
            Branch(
                token_ids=completion,
                weight=1 / num_tokens,
                advantage=advantage,
                engine_logprobs=(0.0,) * len(completion),
            )
            for completion, advantage in zip(group.completions, group.advantages, strict=True)
        )
        whole = PrefixGroup(prefix_ids=group.prompt, branches=branches, name="bench")
        self._groups = [whole] if self._is_shared else [replace(whole, branches=(branch,)) for branch in branches]

    def packs(self) -> list[Pack]:
        device = next(self._engine.module.parameters()).device
        return [pack.to(device) for pack in make_packs(self._groups, self._config.learner.max_pack_tokens)]

    def warm_up(self) -> None:
        self._train(self.packs()[:1])

    def update(self) -> float:
        return self._train(self.packs())

    def _train(self, packs: Sequence[Pack]) -> float:
        total = 0.0
        for number, pack in enumerate(packs):
            loss = self._loss(pack)
            total += loss.item()
            self._engine.backward(loss, last=number == len(packs) - 1)
        self._engine.step(LEARNING_RATE)
        return total

    def _loss(self, pack: Pack) -> torch.Tensor:
        algorithm = self._config.algorithm
        logprob = packed_logprobs(self._engine.module, pack, TEMPERATURE)  # type: ignore[arg-type]
        return grpo_loss(
            logprob=logprob,
            old_logprob=logprob.detach(),
            engine_logprob=pack.engine_logprob,
            advantage=pack.advantage,
            weight=pack.weight,
            clip_low=algorithm.clip_low,
            clip_high=algorithm.clip_high,
            importance_cap=algorithm.importance_cap,
            loss="cispo",
            importance="none",
            sequence=pack.sequence,
        ).loss


def packed_ways(config: RunConfig, model_dir: Path) -> tuple[PackedWay, PackedWay]:
    """Return shared and unshared, over one policy and one optimiser."""
    policy = build_policy(
        model_dir,
        config.model,
        config.lora,
        dropout=config.lora.dropout,
        seed=config.run.seed,
        initial=None,
        with_reference=False,
        gradient_checkpointing=config.learner.gradient_checkpointing,
        device=training_device(),
    )
    engine = DeepSpeedEngine(policy.train(), config.learner, config.model.dtype)
    return (
        PackedWay(SHARED, engine, config, is_shared=True),
        PackedWay(UNSHARED, engine, config, is_shared=False),
    )
