"""Shells that hold a learner in its own process; heavy libraries are imported there and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from floe.cluster.messages import (
    AdapterManifest,
    EqualityReport,
    LearnerRank,
    PromptWithAnswers,
    ScoredGroup,
    StepReport,
    WarmStartBatch,
    WarmStartExample,
    WarmStartReport,
)
from floe.configs.quick_imports import without_collections
from floe.configs.schema import RunConfig


class _Rank:
    """A process that can wait for the other ranks, or join the one that waits."""

    def ping(self) -> bool:
        return True

    def meeting_point(self, node_address: Callable[[], str]) -> tuple[str, int]:
        """Return host and port at which this process, as rank 0, will wait for the others."""
        with without_collections():
            from floe.learner.optimizer.deepspeed_engine import free_port

        host = node_address()
        return host, free_port(host)


class LearnerActor(_Rank):
    """Holds a rank of the GRPO learner once `join` has returned."""

    def __init__(
        self, config: RunConfig, model_dir: Path, initial_adapter: Path | None, put_blob: Callable[[np.ndarray], Any]
    ) -> None:
        self._made_of = config, model_dir, initial_adapter, put_blob

    def join(self, rank: LearnerRank) -> None:
        """Return when every rank has joined."""
        with without_collections():
            from floe.learner.grpo_learner import GrpoLearner

        self._learner = GrpoLearner(*self._made_of, rank)

    def update(
        self, step: int, groups: Sequence[ScoredGroup], supervised: Sequence[WarmStartExample] = ()
    ) -> StepReport:
        return self._learner.update(step, groups, supervised)

    def acquire(self) -> None:
        self._learner.acquire()

    def release(self) -> None:
        self._learner.release()

    def export_adapter(self, version: int) -> AdapterManifest:
        return self._learner.export_adapter(version)

    def export_probe(self, version: int) -> AdapterManifest:
        return self._learner.export_probe(version)

    def canary_logprobs(self, token_ids: Sequence[int], with_adapter: bool) -> list[float]:
        return self._learner.canary_logprobs(token_ids, with_adapter)

    def answer_logprobs(self, text: PromptWithAnswers) -> list[list[float]]:
        return self._learner.answer_logprobs(text)

    def check_equality(self, texts: Sequence[PromptWithAnswers], limit_s: float) -> EqualityReport:
        return self._learner.check_equality(texts, limit_s)

    def save_adapter(self, folder: Path) -> None:
        self._learner.save_adapter(folder)

    def save_state(self, folder: Path) -> None:
        self._learner.save_state(folder)

    def load_state(self, folder: Path) -> None:
        self._learner.load_state(folder)

    def continue_at(self, num_steps_done: int, rate_factor: float) -> None:
        self._learner.continue_at(num_steps_done, rate_factor)


class WarmStartActor(_Rank):
    """Holds a rank of the supervised learner once `join` has returned."""

    def __init__(self, config: RunConfig, model_dir: Path, initial_adapter: Path | None) -> None:
        self._made_of = config, model_dir
        self._initial_adapter = initial_adapter

    def join(self, rank: LearnerRank) -> None:
        """Return when every rank has joined."""
        from floe.learner.supervised import SupervisedLearner

        self._learner = SupervisedLearner(*self._made_of, rank, initial_adapter=self._initial_adapter)

    def train(
        self,
        examples: Sequence[WarmStartExample],
        held_back: Sequence[WarmStartExample],
        folder: Path,
        checkpoint_dir: Path,
    ) -> Iterator[WarmStartBatch | WarmStartReport]:
        yield from self._learner.train(examples, held_back, folder, checkpoint_dir)
