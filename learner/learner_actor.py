"""The shells that hold a learner in a process of its own; heavy libraries are imported there and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.messages import AdapterManifest, ScoredGroup, StepReport, WarmStartExample, WarmStartReport
from configs.schema import RunConfig


class LearnerActor:
    """Holds the GRPO learner."""

    def __init__(
        self, config: RunConfig, model_dir: Path, initial_adapter: Path | None, put_blob: Callable[[np.ndarray], Any]
    ) -> None:
        from learner.grpo_learner import GrpoLearner

        self._learner = GrpoLearner(config, model_dir, initial_adapter, put_blob)

    def ping(self) -> bool:
        return True

    def update(self, step: int, groups: Sequence[ScoredGroup]) -> StepReport:
        return self._learner.update(step, groups)

    def export_adapter(self, version: int) -> AdapterManifest:
        return self._learner.export_adapter(version)

    def save_adapter(self, folder: Path) -> None:
        self._learner.save_adapter(folder)


class WarmStartActor:
    """Holds the supervised learner."""

    def __init__(self, config: RunConfig, model_dir: Path) -> None:
        from learner.supervised import SupervisedLearner

        self._learner = SupervisedLearner(config, model_dir)

    def ping(self) -> bool:
        return True

    def train(
        self, examples: Sequence[WarmStartExample], held_back: Sequence[WarmStartExample], folder: Path
    ) -> Iterator[WarmStartReport]:
        yield from self._learner.train(examples, held_back, folder)
