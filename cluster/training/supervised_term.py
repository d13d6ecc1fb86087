"""The supervised term of a run's steps: which answers the learner gets with each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.random_streams import answers_of_step
from floe.cluster.loop.controller import Learner
from floe.cluster.messages import Question, ScoredGroup, StepReport, WarmStartExample
from floe.cluster.ray_actors.learner_handle import LearnerHandle
from floe.cluster.run_folder.file_names import TRACES_FILE
from floe.cluster.terminal.progress import Progress
from floe.cluster.traces.given_file import read_given
from floe.cluster.traces.making import TraceWork, make_traces
from floe.cluster.training.warm_start import write_traces
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

Answers = Sequence[Callable[[], WarmStartExample]]


def gold_answers(questions: Sequence[Question], encoder: PromptEncoder) -> Answers:
    """Return the training questions' golds, encoded when they are drawn."""

    def encoded(question: Question) -> WarmStartExample:
        return _example(question, encoder.answer(question.gold_sql[0]), encoder)

    return [partial(encoded, one) for one in questions]


def trace_answers(run_dir: Path, questions: Sequence[Question], encoder: PromptEncoder) -> Answers:
    """Return the traces of the run's folder. Raises UserError where they can't be read."""
    given = read_given(run_dir / TRACES_FILE, questions, (), encoder.answer_start)

    def encoded(question: Question, completion: str) -> WarmStartExample:
        return _example(question, encoder.completion(completion), encoder)

    return [partial(encoded, one.question, text) for one in given.answers for text in one.completions]


def keep_traces(
    config: RunConfig, run_dir: Path, work: Callable[[], TraceWork], progress: Progress, *, is_begun: bool
) -> None:
    """Put the run's traces into its folder, from where each attempt takes them.

    Raises UserError where a run that has begun has lost them: others would make it another run.
    """
    if not config.draws_traces or (run_dir / TRACES_FILE).is_file():
        return
    if is_begun:
        raise UserError(
            f"{run_dir / TRACES_FILE} is gone, from which the run's supervised term is drawn: put it back, or start "
            "anew without --resume."
        )
    progress.phase("traces")
    write_traces(run_dir, make_traces(config, work(), progress))


class WithSupervisedTerm:
    """The learner of the main loop; each update gets answers that are drawn from (seed, step) alone."""

    def __init__(self, learner: LearnerHandle, answers: Answers, num_drawn: int, seed: int) -> None:
        self._learner = learner
        self._answers = answers
        self._num_drawn = num_drawn
        self._seed = seed

    def update(self, step: int, groups: Sequence[ScoredGroup]) -> StepReport:
        drawn = answers_of_step(len(self._answers), step, self._num_drawn, self._seed)
        return self._learner.update(step, groups, [self._answers[number]() for number in drawn])

    def save_adapter(self, folder: Path) -> None:
        self._learner.save_adapter(folder)


def with_supervised_term(
    learner: LearnerHandle, config: RunConfig, run_dir: Path, questions: Sequence[Question], encoder: PromptEncoder
) -> Learner:
    """Return the learner with the supervised term that the run has, or as it is without one."""
    if config.algorithm.supervised_coefficient == 0:
        return learner
    answers = trace_answers(run_dir, questions, encoder) if config.draws_traces else gold_answers(questions, encoder)
    return WithSupervisedTerm(learner, answers, config.algorithm.supervised_questions, config.run.seed)


def _example(question: Question, answer_ids: tuple[int, ...], encoder: PromptEncoder) -> WarmStartExample:
    return WarmStartExample(
        database_id=question.database_id,
        prompt_token_ids=encoder.training_prompt(question),
        answer_token_ids=answer_ids,
    )
