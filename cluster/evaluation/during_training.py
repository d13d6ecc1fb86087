"""Greedy accuracy during training on a fixed held-back sample, and the best adapter by it."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from floe.cluster.evaluation.harness import Harness, num_correct, num_executes
from floe.cluster.messages import Question
from floe.cluster.tracking.source_metrics import source_accuracies, sources_of
from floe.cluster.tracking.step_metrics import InterimResult
from floe.configs.errors import UserError
from floe.configs.sections.sampling_sections import EvaluationSection


class InterimEvaluation:
    """Evaluates before the first step and at intervals. `turn` is held meanwhile, so that nothing else computes."""

    def __init__(
        self,
        harness: Harness,
        questions: Sequence[Question],
        every_steps: int,
        turn: Callable[[], AbstractContextManager[None]],
        best: float = -math.inf,
    ) -> None:
        """Start from `best`, the greedy accuracy of the best adapter so far in a run that continues."""
        self._harness = harness
        self._questions = questions
        self._every_steps = every_steps
        self._turn = turn
        self._best = best

    def after(self, step: int) -> InterimResult | None:
        """Evaluate after `step`, 0 being the start; None when none is due. Version `step` must be installed."""
        if self._every_steps == 0 or step % self._every_steps:
            return None
        started_s = time.perf_counter()
        with self._turn():
            groups = self._harness.greedy(self._questions, step)
        judged = [group for group in groups if group.scores[0].outcome.carries_reward]
        greedy = sum(map(num_correct, judged)) / len(judged) if judged else math.nan
        is_best = greedy > self._best
        self._best = greedy if is_best else self._best
        return InterimResult(
            adapter_version=step,
            greedy=greedy,
            executes=sum(map(num_executes, judged)) / len(judged) if judged else math.nan,
            num_questions=len(judged),
            seconds=time.perf_counter() - started_s,
            is_best=is_best,
            by_source=source_accuracies(judged, sources_of(self._questions)),
        )


def interim_questions(tune: Sequence[Question], settings: EvaluationSection) -> list[Question]:
    """Return the fixed sample of the held-back split `tune`, the same for every run over the same split."""
    if settings.every_steps == 0:
        return []
    return random.Random("interim").sample(list(tune), min(settings.num_interim_questions, len(tune)))


def check_held_back(train: Sequence[Question], evaluated: Sequence[Question]) -> None:
    """Raise UserError when a question is both trained on and evaluated."""
    ids = {question.question_id for question in train}
    asked = {(question.database_id, _plain(question.text)) for question in train}
    shared = [one for one in evaluated if one.question_id in ids or (one.database_id, _plain(one.text)) in asked]
    if shared:
        raise UserError(
            f"{len(shared)} of {len(evaluated)} questions of the evaluation are also trained on, the first is "
            f"'{shared[0].question_id}' on database {shared[0].database_id}: choose another evaluation.split, or take "
            "them out of the training questions."
        )


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
