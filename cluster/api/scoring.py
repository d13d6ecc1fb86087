"""`floe.score`: SQL judged by running it in contained processes; needs no model and no Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floe.cluster.api.databases import sqlite_folder
from floe.cluster.api.questions import Question, Questions, questions_of
from floe.cluster.api.settings import Overrides, Reward, configuration, folder_texts, override_texts, reward_texts
from floe.cluster.evaluation.prediction_files import Prediction, read_predictions
from floe.cluster.messages import Candidate
from floe.cluster.messages import Question as Asked
from floe.cluster.messages import Score as Verdict
from floe.configs.errors import UserError

Answers = str | Sequence[str | None] | None  # to one question: SQL, several of them, or None where there is none
# (question, SQL) pairs; or answers by question_id, or one for each of `questions`; or the path of a predictions file.
Predictions = Iterable[tuple[Question, str | None]] | Mapping[str, Answers] | Iterable[Answers] | str | Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The verdict on one prediction.

    `reward` is None where none is due, since the gold query or the scoring failed. `outcome` is "match", "mismatch",
    "syntax_error", "runtime_error", "timeout" and so on, as in docs/reward_service.md.
    """

    question_id: str
    sql: str | None  # what was run
    outcome: str
    reward: float | None
    message: str
    seconds: float  # of CPU time, of running it
    terms: Mapping[str, float] | None = None  # what the reward is made of, in the designs that add terms up

    @property
    def is_correct(self) -> bool:
        return self.outcome == "match"


def score(
    predictions: Predictions,
    questions: Questions | None = None,
    *,
    databases: str | Path,
    reward: Reward | None = None,
    reward_arguments: Mapping[str, Any] | None = None,
    overrides: Overrides | None = None,
    are_completions: bool = False,
) -> list[Score]:
    """Run each prediction's SQL and return one score each, in their order.

    `predictions` are (Question, SQL) pairs. With `questions` they may also be a mapping from question_id to SQL, or a
    sequence with the SQL of each question; several for one question stand in a list. `reward` is as in `train`,
    `arctic` if left out; `overrides` are those of `reward.*`, `data.database_kind` and `prompt.style`.
    `are_completions` says that each is a model's whole answer, from which the SQL is taken.

    Raises UserError for what can't be used, such as a missing database.
    """
    from floe.cluster.operations.score import score_predictions
    from floe.cluster.plugins.checks import check_plugins
    from floe.cluster.preparation.clock import decided_reward

    asked, given = _asked(predictions, questions, "completion" if are_completions else "sql")
    if not given:
        return []
    config = configuration(
        None, [*folder_texts(reward), *override_texts(overrides), *reward_texts(reward, reward_arguments)]
    )
    check_plugins(config)
    used = dict.fromkeys(one.question_id for one in given)
    chosen = [one for one in asked if one.question_id in used]
    folder, design = sqlite_folder(config, databases, chosen), decided_reward(config.reward)
    found = score_predictions(
        given, chosen, folder, design, plugin_folder=config.run.plugin_folder, prompt=config.prompt
    )
    with closing(found) as verdicts:
        return [_score(one, verdict) for one, verdict in zip(given, verdicts, strict=True)]


def _asked(
    predictions: Predictions, questions: Questions | None, field: str
) -> tuple[Sequence[Asked], Sequence[Prediction]]:
    """Return the questions, and the predictions in their order."""
    if questions is None:
        return _of_pairs(predictions, field)
    asked = questions_of(questions)
    ids = [one.question_id for one in asked]
    if isinstance(predictions, str | Path):
        return asked, read_predictions(Path(predictions).expanduser(), ids)
    if isinstance(predictions, Mapping):
        answers = {str(question_id): given for question_id, given in predictions.items()}
        if unknown := [one for one in answers if one not in set(ids)]:
            raise UserError(f"predictions has the question_id {unknown[0]!r}, which no question has: correct it.")
        listed: list[tuple[str, Any]] = list(answers.items())
    else:
        in_order = list(predictions)
        if len(in_order) != len(ids):
            raise UserError(
                f"There are {len(in_order)} predictions for {len(ids)} questions: give one for each, None where there "
                "is none, or a mapping from question_id."
            )
        listed = list(zip(ids, in_order, strict=True))
    return asked, [_prediction(question_id, one, field) for question_id, given in listed for one in _each(given)]


def _each(given: Any) -> Sequence[Any]:
    """Return the predictions for one question."""
    return given if isinstance(given, list | tuple) else (given,)


def _of_pairs(predictions: Any, field: str) -> tuple[Sequence[Asked], Sequence[Prediction]]:
    is_iterable = isinstance(predictions, Iterable) and not isinstance(predictions, str | Mapping)
    pairs = list(predictions) if is_iterable else []
    if not is_iterable or not all(_is_pair(one) for one in pairs):
        raise UserError("predictions are no (Question, SQL) pairs: give such pairs, or the questions as questions=...")
    places: dict[Question, int] = {}
    for question, _ in pairs:
        places.setdefault(question, len(places))
    asked = questions_of(list(places)) if places else []
    return asked, [_prediction(asked[places[question]].question_id, text, field) for question, text in pairs]


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[0], Question)


def _prediction(question_id: str, text: Any, field: str) -> Prediction:
    if text is not None and not isinstance(text, str):
        raise UserError(
            f"A prediction for question {question_id} is of type {type(text).__name__}: give SQL as text, or None."
        )
    candidate = Candidate(completion="") if text is None else Candidate(**{field: text})
    return Prediction(shown_id=question_id, question_id=question_id, candidate=candidate)


def _score(prediction: Prediction, verdict: Verdict) -> Score:
    return Score(
        question_id=prediction.question_id,
        sql=verdict.sql,
        outcome=verdict.outcome.value,
        reward=verdict.reward,
        message=verdict.message,
        seconds=verdict.seconds,
        terms=verdict.terms,
    )
