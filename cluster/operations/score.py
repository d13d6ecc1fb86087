"""`floe score`: judges given SQL by running it, without any model."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TextIO

from floe.actors.questions.question_sets import DatabaseFolder, as_they_are
from floe.actors.questions.questions import read_questions
from floe.cluster.databases.places import database_path, not_a_folder
from floe.cluster.evaluation.prediction_files import Prediction, read_predictions
from floe.cluster.messages import Question, Score, ScoreRequest
from floe.cluster.operations.score_texts import json_line, summary, verdict_table
from floe.cluster.preparation.clock import decided_reward
from floe.cluster.terminal.progress import Advance, progress_bar, show_nothing
from floe.configs.errors import UserError
from floe.configs.schema import PromptSection
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.scorer_pool import ScorerPool

EXIT_CODE_UNSCORED = 3
EXIT_CODE_READER_GONE = 141  # as a shell says it of a program that SIGPIPE ended


class ReaderGone(Exception):
    """The reader of the output has gone, as after `| head -1`."""


def score(
    questions_path: Path,
    databases_dir: Path,
    predictions_path: Path,
    reward: RewardSection,
    as_json: bool,
    allow_missing_databases: bool = False,
    plugin_folder: Path | None = None,
    prompt: PromptSection | None = None,
    databases: DatabaseFolder = as_they_are,
) -> int:
    """Print a verdict for each prediction on stdout, in the file's order, and a summary on stderr.

    JSON lines appear as soon as they and all before them are known, the table at the end. The exit code is 0; 3 when a
    prediction carries no reward (its gold query failed, or scoring did); 141 when the reader is gone. Uses
    `reward.num_workers` threads, each with its own scorer. `databases` builds them where they are of another kind than
    SQLite's. Raises UserError for input that can't be used.
    """
    reward = decided_reward(reward)
    questions = {question.question_id: question for question in read_questions(questions_path)}
    predictions = read_predictions(predictions_path, list(questions))
    asked = [questions[question_id] for question_id in dict.fromkeys(one.question_id for one in predictions)]
    if databases is as_they_are:
        check_databases(databases_dir, [] if allow_missing_databases else asked)
    else:
        names = sorted({question.database_id for question in asked})
        databases_dir = databases(databases_dir.expanduser().resolve(), names, str(questions_path))
    started_s = time.monotonic()
    known: list[Score] = []
    try:
        with (
            # JSON lines on the same terminal are progress enough, and a bar would be drawn into them.
            progress_bar("Scoring", len(predictions), shown=not (as_json and sys.stdout.isatty())) as advance,
            closing(
                score_predictions(predictions, asked, databases_dir, reward, advance, plugin_folder, prompt)
            ) as scores,
        ):
            for prediction, verdict in zip(predictions, scores, strict=True):
                known.append(verdict)
                if as_json:
                    _write(json_line(prediction, verdict), sys.stdout)
        if not as_json:
            _write(verdict_table(predictions, known), sys.stdout)
        _write(summary(known, len(asked), len(questions), reward.clock, time.monotonic() - started_s), sys.stderr)
    except ReaderGone:
        return EXIT_CODE_READER_GONE
    return 0 if all(one.reward is not None for one in known) else EXIT_CODE_UNSCORED


def score_predictions(
    predictions: Sequence[Prediction],
    asked: Sequence[Question],
    databases_dir: Path,
    reward: RewardSection,
    advance: Advance = show_nothing,
    plugin_folder: Path | None = None,
    prompt: PromptSection | None = None,
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
    with closing(ScorerPool(databases_dir, reward, plugin_folder, prompt)) as pool:
        # A question comes after those that the predictions name before it, so its order holds no verdict back.
        for request, verdicts in zip(requests, pool.score_all(requests), strict=True):
            waiting.update(zip(positions[request.question_id], verdicts, strict=True))
            advance(len(verdicts))
            while num_yielded in waiting:
                yield waiting.pop(num_yielded)
                num_yielded += 1


def check_databases(databases_dir: Path, asked: Sequence[Question]) -> None:
    """Raise UserError unless each question's database is in the folder."""
    if not databases_dir.is_dir():
        raise UserError(not_a_folder(databases_dir))
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
