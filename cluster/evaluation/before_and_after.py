"""A training run's evaluations: the policies of its table, each also saved for `floe compare`.

A run that continues after an interruption takes earlier evaluations from its folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from floe.cluster.evaluation.before_after_table import EvaluationReport, PolicyAnswers, evaluation_report, start_row
from floe.cluster.evaluation.harness import CONTROL_QUESTIONS, Harness, temperature_of_same_entropy
from floe.cluster.evaluation.records import evaluation_identity, question_records
from floe.cluster.evaluation.saved_evaluation import CONTROL, EVALUATIONS_FOLDER, TRAINED, Evaluation
from floe.cluster.messages import AdapterManifest, Question
from floe.cluster.run_folder.file_names import POLICY_FILE

BASE_MODEL = "base model"


class RunEvaluation:
    """Evaluations before and after training. `before` comes first; both generate, so nothing else may at the time."""

    def __init__(self, harness: Harness, questions: Sequence[Question], databases_dir: Path, run_dir: Path) -> None:
        self._harness = harness
        self._questions = questions
        self._databases_dir = databases_dir
        self._run_dir = run_dir
        self._config = harness.config
        self._start = start_row(harness.config)
        self._policies: list[PolicyAnswers] = []

    def before(self) -> None:
        """Evaluate the base model, if asked for, and the policy before GRPO's first step, which is version 0."""
        if self._config.evaluation.include_base:
            self._evaluate(BASE_MODEL, None, "base_model")
        self._evaluate(self._start, 0, "start")

    def after(self, last: int, start: AdapterManifest, tune: Sequence[Question]) -> EvaluationReport:
        """Evaluate the trained policy, version `last`, and before it the warm start sampled at the same entropy."""
        self._evaluate("GRPO", last, TRAINED, is_known=False)
        if self._config.evaluation.include_entropy_control:
            self._policies.insert(-1, self._control(start, tune, last))
        return evaluation_report(
            self._policies,
            num_resamples=self._config.evaluation.num_bootstrap,
            seed=self._config.run.seed,
            num_asked=len(self._questions),
            reference=self._start,
            sources={question.question_id: question.source for question in self._questions},
        )

    def _evaluate(self, name: str, version: int | None, name_of_folder: str, *, is_known: bool = True) -> None:
        """Evaluate a policy; with `is_known` an earlier attempt's evaluation is used."""
        folder = self._run_dir / EVALUATIONS_FOLDER / name_of_folder
        if is_known and (folder / POLICY_FILE).is_file():
            self._policies.append(PolicyAnswers.read(folder / POLICY_FILE))
            return
        answered = self._harness.answers(name, self._questions, version, self._config.evaluation.temperature)
        policy = answered.policy()
        self._policies.append(policy)
        adapter = None if version is None else f"{self._run_dir.name}, version {version}"
        Evaluation(
            identity=evaluation_identity(
                self._config, self._harness.encoder, self._databases_dir, self._questions, adapter
            ),
            num_asked=len(self._questions),
            has_suite=self._config.has_suite,
            clock=self._config.reward.clock,
            records=question_records(answered, is_timed=False),
            left_out=answered.without_verdict(),
        ).write(folder)
        policy.write(folder / POLICY_FILE)

    def _control(self, start: AdapterManifest, tune: Sequence[Question], last: int) -> PolicyAnswers:
        harness = self._harness
        target = harness.entropy(tune[:CONTROL_QUESTIONS], last, self._config.evaluation.temperature)
        # The warm start's slot was reused long ago; it comes back under a new version.
        again = last + 1
        harness.rollouts.install(replace(start, version=again))
        same_entropy = temperature_of_same_entropy(harness, tune, again, target)
        name = f"{self._start}, T {same_entropy:.2f}"
        control = harness.answers(name, self._questions, again, same_entropy, greedy=False).policy()
        folder = self._run_dir / EVALUATIONS_FOLDER / CONTROL
        folder.mkdir(parents=True, exist_ok=True)
        control.write(folder / POLICY_FILE)
        return control
