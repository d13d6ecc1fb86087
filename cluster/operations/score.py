"""`floe score`: judges given SQL by running it, without any model."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, TextIO

from floe.actors.questions.questions import read_questions
from floe.cluster.databases.places import database_path
from floe.cluster.evaluation.prediction_files import Prediction, read_predictions
from floe.cluster.messages import Outcome, Question, Score, ScoreRequest
from floe.cluster.preparation.clock import decided_reward
from floe.cluster.terminal.progress import Advance, progress_bar, show_nothing
from floe.configs.errors import UserError
from floe.configs.schema import RewardSection
from floe.reward_service.scorer import Scorer

EXIT_CODE_UNSCORED = 3
EXIT_CODE_READER_GONE = 141  # as a shell says it of a program that SIGPIPE ended

ScoreAll = Callable[[Iterable[ScoreRequest]], Iterator[tuple[Score, ...]]]


class ReaderGone(Exception):
    """The reader of the output has gone, as after `| head -1`."""


def score(
    questions_path: Path,
    databases_dir: Path,
    predictions_path: Path,
    reward: RewardSection,
    as_json: bool,
    allow_missing_databases: bool = False,
) -> int:
    """Print a verdict for each prediction on stdout, in the file's order, and a summary on stderr.

    JSON lines appear as soon as they and all before them are known, the table at the end. The exit code is 0; 3 when a
    prediction carries no reward (its gold query failed, or scoring did); 141 when the reader is gone. Uses
    `reward.num_workers` threads, each with its own scorer. Raises UserError for input that can't be used.
    """
    reward = decided_reward(reward)
    questions = {question.question_id: question for question in read_questions(questions_path)}
    predictions = read_predictions(predictions_path, list(questions))
    asked = [questions[question_id] for question_id in dict.fromkeys(one.question_id for one in predictions)]
    _check_databases(databases_dir, [] if allow_missing_databases else asked)
    started_s = time.monotonic()
    known: list[Score] = []
    try:
        with (
            # JSON lines on the same terminal are progress enough, and a bar would be drawn into them.
            progress_bar("Scoring", len(predictions), shown=not (as_json and sys.stdout.isatty())) as advance,
            closing(score_predictions(predictions, asked, databases_dir, reward, advance)) as scores,
        ):
            for prediction, verdict in zip(predictions, scores, strict=True):
                known.append(verdict)
                if as_json:
                    _write(_json_line(prediction, verdict), sys.stdout)
        if not as_json:
            _write(_table(predictions, known), sys.stdout)
        _write(_summary(known, len(asked), len(questions), reward.clock, time.monotonic() - started_s), sys.stderr)
    except ReaderGone:
        return EXIT_CODE_READER_GONE
    return 0 if all(one.reward is not None for one in known) else EXIT_CODE_UNSCORED


def score_predictions(
    predictions: Sequence[Prediction],
    asked: Sequence[Question],
    databases_dir: Path,
    reward: RewardSection,
    advance: Advance = show_nothing,
) -> Generator[Score, None, None]:
    """Yield one score per prediction, in order; `advance` gets the number of newly known ones, yielded or not.

    Predictions of one question go together, so that its gold runs once. Close the iterator if it is not read to its
    end.
    """
    positions: dict[str, list[int]] = {question.question_id: [] for question in asked}
    for position, prediction in enumerate(predictions):
        positions[prediction.question_id].append(position)
    requests = [
        ScoreRequest(
            question_id=question.question_id,
            database_id=question.database_id,
            gold_sql=question.gold_sql,
            question=question.text,
            evidence=question.evidence,
            candidates=tuple(predictions[position].candidate for position in positions[question.question_id]),
        )
        for question in asked
    ]
    waiting: dict[int, Score] = {}
    num_yielded = 0
    with _scorer_threads(databases_dir, reward) as score_all:
        # A question comes after those that the predictions name before it, so its order holds no verdict back.
        for request, verdicts in zip(requests, score_all(requests), strict=True):
            waiting.update(zip(positions[request.question_id], verdicts, strict=True))
            advance(len(verdicts))
            while num_yielded in waiting:
                yield waiting.pop(num_yielded)
                num_yielded += 1


@contextmanager
def _scorer_threads(databases_dir: Path, reward: RewardSection) -> Iterator[ScoreAll]:
    """Yield a `map` over score requests; a scorer owns executor children, so every thread has its own."""
    own = threading.local()
    every: list[Scorer] = []
    with ExitStack() as scorers:

        def score_one(request: ScoreRequest) -> tuple[Score, ...]:
            if not hasattr(own, "scorer"):
                own.scorer = scorers.enter_context(closing(Scorer(databases_dir, reward)))
                every.append(own.scorer)
            return own.scorer.score(request)

        pool = ThreadPoolExecutor(reward.num_workers)
        try:
            yield lambda requests: pool.map(score_one, requests)
        except BaseException:  # as by Ctrl-C: running work need not finish
            pool.shutdown(wait=False, cancel_futures=True)
            for scorer in every:
                scorer.abandon()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _check_databases(databases_dir: Path, asked: Sequence[Question]) -> None:
    if not databases_dir.is_dir():
        raise UserError(f"There is no databases folder {databases_dir}: give one that holds <db_id>/<db_id>.sqlite.")
    for database_id in dict.fromkeys(question.database_id for question in asked):
        path = database_path(databases_dir, database_id)
        if not path.is_file():
            raise UserError(f"There is no database {path}: add it, or give --allow-missing-databases.")


def _write(text: str, stream: TextIO) -> None:
    """Print and flush. Raises ReaderGone."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError as error:
        # Otherwise Python would meet the broken pipe again when it flushes the rest at its end.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        raise ReaderGone from error


def _json_line(prediction: Prediction, verdict: Score) -> str:
    line: dict[str, Any] = {
        "question_id": prediction.shown_id,
        "reward": verdict.reward,
        "outcome": verdict.outcome.value,
        "seconds": round(verdict.seconds, 6),
    }
    if verdict.terms:
        line["terms"] = {name: round(value, 6) for name, value in verdict.terms.items()}
    return json.dumps(line)


def _table(predictions: Sequence[Prediction], scores: Sequence[Score]) -> str:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from floe.cluster.terminal.progress import make_console

    table = Table("question", "outcome", "reward", "seconds", "message", box=box.SIMPLE_HEAD, pad_edge=False)
    for prediction, verdict in zip(predictions, scores, strict=True):
        reward = "-" if verdict.reward is None else f"{verdict.reward:g}"
        cells = (str(prediction.shown_id), verdict.outcome.value, reward, f"{verdict.seconds:.3f}", verdict.message)
        table.add_row(*(Text(_printable(cell)) for cell in cells))
    console = make_console()
    with console.capture() as captured:
        console.print(table)
    return captured.get().removesuffix("\n")


def _summary(scores: Sequence[Score], num_asked: int, num_questions: int, clock: str, elapsed_s: float) -> str:
    counts = Counter(one.outcome for one in scores)
    parts = ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome])
    rate = len(scores) / max(elapsed_s, 1e-9)
    lines = [
        f"Scored {len(scores)} predictions of {num_asked} questions: {parts or 'none'}.",
        f"That took {elapsed_s:.1f} s, {rate:.1f} scores/s.",
        f"SQL got {clock} UTC for the present time (--clock).",
    ]
    if num_unscored := sum(one.reward is None for one in scores):
        lines.append(f"No reward for {num_unscored} of them: the gold query or the scoring failed.")
    lines.append(f"{num_questions - num_asked} of {num_questions} questions have no prediction.")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Return text fit for a terminal: SQL and its errors may hold control characters and lone surrogates."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
