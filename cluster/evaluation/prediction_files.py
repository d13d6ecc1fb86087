"""Reads predictions: JSON lines, a JSON array, and the two forms that `submissions` writes, BIRD's and Spider's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floe.actors.questions.questions import json_lines, read_text
from floe.actors.records.question_records import question_id_text
from floe.cluster.evaluation.submissions import BIRD_SEPARATOR
from floe.cluster.messages import Candidate
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One prediction; `shown_id` keeps the id's JSON type."""

    shown_id: int | str
    question_id: str
    candidate: Candidate


def read_predictions(path: Path, question_ids: Sequence[str]) -> list[Prediction]:
    """Return the predictions of a file in any of the four forms; `question_ids` are in the questions file's order.

    Null is a prediction without SQL. Raises UserError that names the line or entry.
    """
    text = read_text(path, "predictions file")
    start = text.lstrip()[:1]
    whole = _as_json(text) if start in ("[", "{") else None
    if isinstance(whole, list):
        return _of_array(whole, path, question_ids)
    if isinstance(whole, dict) and whole and all(key.isdecimal() for key in whole):
        return _of_bird(whole, path, question_ids)
    if start in ("{", ""):
        return _of_lines(text, path, question_ids)
    return _of_spider(text, path, question_ids)


def _as_json(text: str) -> Any:
    """Return the JSON value; None for several documents, such as JSON lines."""
    try:
        return parsed_json(text)
    except (ValueError, RecursionError):
        return None


def _of_lines(text: str, path: Path, question_ids: Sequence[str]) -> list[Prediction]:
    known = set(question_ids)
    try:
        lines = list(json_lines(text))
    except ValueError as error:
        raise UserError(f"In {path}, {error}: give one JSON object per line.") from None
    return [_of_object(value, f"In {path}, line {number}", known) for number, value in lines]


def _of_array(values: Sequence[Any], path: Path, question_ids: Sequence[str]) -> list[Prediction]:
    """Read objects as in JSON lines, or the SQL of every question in order."""
    if all(value is None or isinstance(value, str) for value in values):
        return _in_order(values, path, question_ids)
    known = set(question_ids)
    return [_of_object(value, f"In {path}, entry {number}", known) for number, value in enumerate(values, start=1)]


def _of_bird(values: dict[str, Any], path: Path, question_ids: Sequence[str]) -> list[Prediction]:
    """Read BIRD's form, which counts from 0 in the questions file's order."""
    found = []
    for key, value in values.items():
        where = f"In {path}, the entry {key!r}"
        if int(key) >= len(question_ids):
            raise UserError(
                f"{where} is no number of a question, of which there are {len(question_ids)} from 0 on: correct it."
            )
        if value is not None and not isinstance(value, str):
            raise UserError(f"{where} is no text: give SQL{BIRD_SEPARATOR!r}db_id, or null.")
        sql = None if value is None else value.split(BIRD_SEPARATOR)[0]
        found.append(_of_text(question_ids[int(key)], sql))
    return found


def _of_spider(text: str, path: Path, question_ids: Sequence[str]) -> list[Prediction]:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    # A tab and a database id may follow, as Spider's own evaluator reads them.
    return _in_order([line.split("\t")[0] or None for line in lines], path, question_ids)


def _in_order(sqls: Sequence[str | None], path: Path, question_ids: Sequence[str]) -> list[Prediction]:
    if len(sqls) != len(question_ids):
        raise UserError(
            f"{path} has {len(sqls)} predictions without ids for {len(question_ids)} questions: give one for each, in "
            "the order of the questions file, or JSON lines with question_id and sql."
        )
    return [_of_text(question_id, sql) for question_id, sql in zip(question_ids, sqls, strict=True)]


def _of_object(value: Any, where: str, known_ids: set[str]) -> Prediction:
    if not isinstance(value, dict):
        raise UserError(f"{where} is not a JSON object: give question_id and sql (or completion).")
    shown_id = value.get("question_id")
    question_id = question_id_text(shown_id)
    if question_id is None or shown_id is None:
        raise UserError(f"{where} has no question_id that is text or a whole number: add it.")
    if question_id not in known_ids:
        raise UserError(f"{where} has the question_id {shown_id!r}, which is not in the questions file: correct it.")
    given = {field: value[field] for field in ("sql", "completion") if field in value}
    if len(given) != 1 or not all(text is None or isinstance(text, str) for text in given.values()):
        raise UserError(f"{where} must hold exactly one of sql and completion, as text or null: correct it.")
    ((field, text),) = given.items()
    candidate = Candidate(completion="") if text is None else Candidate(**{field: text})
    return Prediction(shown_id=shown_id, question_id=question_id, candidate=candidate)


def _of_text(question_id: str, sql: str | None) -> Prediction:
    candidate = Candidate(completion="") if sql is None else Candidate(sql=sql)
    return Prediction(shown_id=question_id, question_id=question_id, candidate=candidate)
