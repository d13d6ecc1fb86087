"""`floe score`: judges given SQL by running it, without any model."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.data.questions import json_lines, question_id_text, read_questions, read_text
from cluster.messages import Candidate, Outcome, Question, Score, ScoreRequest
from configs.errors import UserError
from configs.schema import RewardSection
from reward_service.databases import database_path
from reward_service.scorer import Scorer

EXIT_CODE_UNSCORED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One line of the predictions file; `shown_id` keeps the id's JSON type."""

    shown_id: int | str
    question_id: str
    candidate: Candidate


def score(
    questions_path: Path, databases_dir: Path, predictions_path: Path, reward: RewardSection, as_json: bool
) -> int:
    """Print a verdict for each prediction on stdout, in the file's order, and a summary on stderr.

    The exit code is 0, or 3 when a prediction carries no reward (its gold query failed, or scoring did). Uses
    `reward.num_workers` threads, each with its own scorer. Raises UserError for input that can't be used.
    """
    questions = {question.question_id: question for question in read_questions(questions_path)}
    predictions = read_predictions(predictions_path, questions.keys())
    asked = [questions[question_id] for question_id in dict.fromkeys(one.question_id for one in predictions)]
    _check_databases(databases_dir, asked)
    scores = score_predictions(predictions, asked, databases_dir, reward)
    if as_json:
        _print_json(predictions, scores)
    else:
        _print_table(predictions, scores)
    _print_summary(scores, num_asked=len(asked), num_questions=len(questions))
    return 0 if all(one.reward is not None for one in scores) else EXIT_CODE_UNSCORED


def read_predictions(path: Path, known_ids: Any) -> list[Prediction]:
    """The predictions of a JSON lines file; blank lines are skipped. Raises UserError naming the line."""
    try:
        lines = list(json_lines(read_text(path, "predictions file")))
    except ValueError as error:
        raise UserError(f"In {path}, {error}: give one JSON object per line.") from None
    return [_prediction(value, f"In {path}, line {number}", known_ids) for number, value in lines]


def score_predictions(
    predictions: Sequence[Prediction], asked: Sequence[Question], databases_dir: Path, reward: RewardSection
) -> list[Score]:
    """One score per prediction, in order. Predictions of one question go together, so that its gold runs once."""
    positions: dict[str, list[int]] = {question.question_id: [] for question in asked}
    for position, prediction in enumerate(predictions):
        positions[prediction.question_id].append(position)
    requests = [
        ScoreRequest(
            question_id=question.question_id,
            database_id=question.database_id,
            gold_sql=question.gold_sql,
            candidates=tuple(predictions[position].candidate for position in positions[question.question_id]),
        )
        for question in asked
    ]
    scores: dict[int, Score] = {}
    with _scorer_threads(databases_dir, reward) as score_all:
        for request, verdicts in zip(requests, score_all(requests), strict=True):
            scores.update(zip(positions[request.question_id], verdicts, strict=True))
    return [scores[position] for position in range(len(predictions))]


@contextmanager
def _scorer_threads(databases_dir: Path, reward: RewardSection) -> Iterator[Any]:
    """A `map` over score requests; a scorer owns executor children, so every thread has one of its own."""
    own = threading.local()
    with ExitStack() as scorers:

        def score_one(request: ScoreRequest) -> tuple[Score, ...]:
            if not hasattr(own, "scorer"):
                own.scorer = scorers.enter_context(closing(Scorer(databases_dir, reward)))
            return own.scorer.score(request)

        pool = ThreadPoolExecutor(reward.num_workers)
        try:
            yield lambda requests: pool.map(score_one, requests)
        finally:
            pool.shutdown(cancel_futures=True)


def _prediction(value: Any, where: str, known_ids: Any) -> Prediction:
    if not isinstance(value, dict):
        raise UserError(f"{where} is not a JSON object: give question_id and sql (or completion).")
    shown_id = value.get("question_id")
    question_id = question_id_text(shown_id)
    if question_id is None or shown_id is None:
        raise UserError(f"{where} has no question_id that is text or a whole number: add it.")
    if question_id not in known_ids:
        raise UserError(f"{where} has the question_id {shown_id!r}, which is not in the questions file: correct it.")
    given = {field: value[field] for field in ("sql", "completion") if field in value}
    if len(given) != 1 or not all(isinstance(text, str) for text in given.values()):
        raise UserError(f"{where} must hold exactly one of sql and completion, as text: correct it.")
    return Prediction(shown_id=shown_id, question_id=question_id, candidate=Candidate(**given))


def _check_databases(databases_dir: Path, asked: Sequence[Question]) -> None:
    if not databases_dir.is_dir():
        raise UserError(f"There is no databases folder {databases_dir}: give one that holds <db_id>/<db_id>.sqlite.")
    for database_id in dict.fromkeys(question.database_id for question in asked):
        path = database_path(databases_dir, database_id)
        if not path.is_file():
            raise UserError(f"There is no database {path}: add it, or leave out the predictions that need it.")


def _print_json(predictions: Sequence[Prediction], scores: Sequence[Score]) -> None:
    for prediction, verdict in zip(predictions, scores, strict=True):
        line = {
            "question_id": prediction.shown_id,
            "reward": verdict.reward,
            "outcome": verdict.outcome.value,
            "seconds": round(verdict.seconds, 6),
        }
        print(json.dumps(line))


def _print_table(predictions: Sequence[Prediction], scores: Sequence[Score]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from cluster.reports.progress import make_console

    table = Table("question", "outcome", "reward", "seconds", "message", box=box.SIMPLE_HEAD, pad_edge=False)
    for prediction, verdict in zip(predictions, scores, strict=True):
        reward = "-" if verdict.reward is None else f"{verdict.reward:g}"
        cells = (str(prediction.shown_id), verdict.outcome.value, reward, f"{verdict.seconds:.3f}", verdict.message)
        table.add_row(*(Text(_printable(cell)) for cell in cells))
    make_console().print(table)


def _print_summary(scores: Sequence[Score], num_asked: int, num_questions: int) -> None:
    counts = Counter(one.outcome for one in scores)
    parts = ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome])
    print(f"Scored {len(scores)} predictions of {num_asked} questions: {parts or 'none'}.", file=sys.stderr)
    num_unscored = sum(one.reward is None for one in scores)
    if num_unscored:
        print(f"No reward for {num_unscored} of them: the gold query or the scoring failed.", file=sys.stderr)
    print(f"{num_questions - num_asked} of {num_questions} questions have no prediction.", file=sys.stderr)


def _printable(text: str) -> str:
    """SQL and its error messages may hold control characters and lone surrogates, which a terminal must not get."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
