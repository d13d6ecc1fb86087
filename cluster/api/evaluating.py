"""`floe.evaluate`: the accuracy of a policy on questions, with intervals and a record of each question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from floe.cluster.api.databases import sqlite_folder
from floe.cluster.api.policies import Adapter, chosen_policy
from floe.cluster.api.questions import Questions, questions_of
from floe.cluster.api.settings import Overrides, Preset, override_texts
from floe.cluster.api.turn import heavy_imports, own_turn
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

if TYPE_CHECKING:
    from floe.cluster.evaluation.intervals import Interval
    from floe.cluster.evaluation.saved_evaluation import Evaluation as SavedEvaluation
    from floe.cluster.evaluation.saved_evaluation import QuestionRecord
    from floe.cluster.evaluation.summary import EvaluationSummary
    from floe.cluster.operations.evaluate import AskedOf


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation:
    """One policy's answers to some questions; every figure is a share of questions between 0 and 1."""

    saved: SavedEvaluation
    summary: EvaluationSummary

    @property
    def greedy(self) -> Interval:
        """Share of questions whose greedy answer is right, with its 95 % interval."""
        return self.summary.overall["greedy"]

    @property
    def mean(self) -> Interval:
        """Share of the samples that are right."""
        return self.summary.overall[f"mean of {self.num_samples}"]

    @property
    def pass_at(self) -> Mapping[int, Interval]:
        """Share of questions with a right answer among k samples, by k from 1 to the number of samples."""
        return {k: self.summary.overall[f"pass@{k}"] for k in range(1, self.num_samples + 1)}

    @property
    def figures(self) -> Mapping[str, Interval]:
        """Every figure that `floe evaluate` prints of all questions, by its name there."""
        return self.summary.overall

    @property
    def num_samples(self) -> int:
        return self.saved.identity.num_samples

    @property
    def records(self) -> tuple[QuestionRecord, ...]:
        """Record of each question, in their order; those in `left_out` have none."""
        return self.saved.records

    @property
    def left_out(self) -> tuple[str, ...]:
        """Id and reason of each question without a usable verdict, whose gold query failed for example."""
        return self.saved.left_out

    def save(self, folder: str | Path) -> Path:
        """Write it for `floe compare` and return the file's path. Raises UserError when it can't be written."""
        return self.saved.write(Path(folder).expanduser())

    def __repr__(self) -> str:
        from floe.cluster.terminal.notebook_view import text_of

        return text_of(self.summary.render)

    def _repr_html_(self) -> str:
        from floe.cluster.terminal.notebook_view import html_of

        return html_of(self.summary.render)


def evaluate(
    adapter: Adapter = None,
    questions: Questions | None = None,
    *,
    databases: str | Path | None = None,
    preset: Preset = None,
    overrides: Overrides | None = None,
    num_samples: int | None = None,
    endpoint: Mapping[str, object] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Have a policy answer questions, greedily and with samples, and return how many answers are right.

    `adapter` is a run, its folder, or a PEFT folder; without it the base model answers. `preset` is as in `train`; left
    out, it is the configuration of the adapter's run, and without a run "quickstart". `questions` are Question objects,
    a DataFrame or a questions file, all of which are asked, with the databases in the folder `databases`; without them
    it is the split `evaluation.split` of the configuration. `num_samples` is the number of samples per question,
    otherwise `evaluation.num_samples`. `endpoint` describes a model behind an endpoint, which answers in place of a
    local policy: `url`, `model` and the other fields of docs/evaluation.md; its answers are kept in `run.home`.

    Raises UserError for what the user can fix, and leaves no process.
    """
    texts = override_texts(overrides)
    if num_samples is not None:
        texts.append(f"evaluation.num_samples={num_samples}")
    if endpoint is not None and adapter is not None:
        raise UserError("adapter and endpoint name a policy each: give one of them.")
    with own_turn():
        config, folder = chosen_policy(adapter, preset, texts)
        with heavy_imports():
            from floe.cluster.api.shown import shown_progress
            from floe.cluster.endpoints.policy import EndpointPolicy
            from floe.cluster.evaluation.summary import summary
            from floe.cluster.operations.evaluate import evaluated, evaluated_endpoint
        asked_of = _asked_of(config, questions, databases)
        with shown_progress(progress) as shown:
            if endpoint is None:
                _, saved = evaluated(config, folder, asked_of, shown)
            else:
                described = EndpointPolicy.of_fields(endpoint, "endpoint")
                _, saved = evaluated_endpoint(config, described, asked_of, shown)
        return Evaluation(saved, summary(saved, config.evaluation.num_bootstrap))


def _asked_of(config: RunConfig, questions: Questions | None, databases: str | Path | None) -> AskedOf:
    from floe.actors.sources.run_sets import sets_of_run
    from floe.cluster.evaluation.asked_questions import asked_of_questions, asked_of_split
    from floe.cluster.operations.score import check_databases

    if questions is None:
        if databases is not None:
            raise UserError("databases is given without questions: give both, or neither for the preset's data.")
        return asked_of_split
    asked = questions_of(questions)
    if databases is None:
        folder = sets_of_run(config).databases_dir
        check_databases(folder, asked)
    else:
        folder = sqlite_folder(config, databases, asked)
    return partial(asked_of_questions, questions=asked, databases_dir=folder)
