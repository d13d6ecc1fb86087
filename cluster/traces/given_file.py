"""Reads a file of traces that the user gives; what it says of an answer's verdict is not believed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floe.actors.records.question_records import question_id_text
from floe.cluster.messages import Question
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json, read_regular
from floe.configs.files.paths import RELATIVE_RULE


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenAnswers:
    """Answers that a file has for one question."""

    question: Question
    is_held_back: bool
    completions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenTraces:
    answers: tuple[GivenAnswers, ...]
    num_unknown: int  # records of questions that the run does not learn from


def read_given(path: Path, train: Sequence[Question], held_back: Sequence[Question], answer_start: str) -> GivenTraces:
    """Return the file's answers by question; `answer_start` is taken off an answer that begins with it.

    A record names its question by `question_id`, or by its text and `database_id` (or `db_id`). Raises UserError for a
    file that can't be read, a record that is none, or where none is of the run's questions.
    """
    try:
        lines = read_regular(path).split(b"\n")
    except OSError as fault:
        raise UserError(
            f"Can't read warm_start.traces {path} ({fault.strerror}): give a file of traces in JSON lines "
            f"({RELATIVE_RULE})."
        ) from fault
    places: dict[object, tuple[Question, bool]] = {}
    for is_held, many in ((True, held_back), (False, train)):
        for one in many:
            places[one.question_id] = places[one.text, one.database_id] = (one, is_held)
    found: dict[tuple[bool, str], list[str]] = defaultdict(list)
    questions: dict[tuple[bool, str], Question] = {}
    num_unknown = num_records = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        num_records += 1
        key, completion = _record(line, f"{path}, line {number}")
        if key not in places:
            num_unknown += 1
            continue
        question, is_held = places[key]
        place = is_held, question.question_id
        questions[place] = question
        found[place].append(completion.removeprefix(answer_start))
    if not found:
        what = (
            f"none of its {num_records:,} records is of a question that the run learns from"
            if num_records
            else ("it is empty")
        )
        raise UserError(f"warm_start.traces is {path}, but {what}: give traces of the run's training questions.")
    answers = [
        GivenAnswers(question=questions[place], is_held_back=place[0], completions=tuple(many))
        for place, many in found.items()
    ]
    return GivenTraces(answers=tuple(answers), num_unknown=num_unknown)


def _record(line: bytes, where: str) -> tuple[object, str]:
    """Return what the record's question is found by, and its answer."""
    try:
        value: Any = parsed_json(line)
    except ValueError as fault:
        raise UserError(f"{where}, is no JSON ({fault}): give one object on each line.") from fault
    if not isinstance(value, dict):
        raise UserError(f"{where}, is no JSON object: give one with question_id and completion.")
    completion = value.get("completion")
    if not isinstance(completion, str):
        raise UserError(f"{where}, has no text `completion`: give the answer, thought included.")
    if value.get("question_id") is not None:
        return question_id_text(value["question_id"]), completion
    text, database = value.get("question"), value.get("database_id", value.get("db_id"))
    if not isinstance(text, str) or not isinstance(database, str):
        raise UserError(f"{where}, names no question: give question_id, or question and database_id.")
    return (text, database), completion
