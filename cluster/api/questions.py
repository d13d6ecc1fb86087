"""The questions that a caller gives: objects, records or a DataFrame, as the questions of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from floe.actors.questions.questions import NO_FIELDS, read_questions
from floe.actors.records.fields import NAMES, guessed_fields
from floe.actors.records.question_records import found_questions
from floe.actors.records.record_files import Record
from floe.cluster import messages
from floe.configs.errors import UserError
from floe.configs.files.whole_files import write_whole

_KNOWN_FIELDS = frozenset(name for names in NAMES.values() for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question over one database.

    Any of `gold_sql` is accepted as the right answer; it is one query or several. `evidence` is knowledge that the
    database does not hold. Without a `question_id` a question is called by its place among the others, from 0.
    """

    db_id: str
    question: str
    gold_sql: str | Sequence[str]
    evidence: str = ""
    question_id: str | int | None = None

    def __post_init__(self) -> None:
        golds = _plain(self.gold_sql)  # a cell of a DataFrame may be an array
        # A tuple, so that questions can be told apart by hash.
        object.__setattr__(self, "gold_sql", tuple(golds) if isinstance(golds, list) else golds)
        object.__setattr__(self, "question_id", _plain(self.question_id))


class DataFrame(Protocol):
    """What floe needs of a pandas DataFrame."""

    @property
    def columns(self) -> Any: ...

    def to_dict(self, orient: Any) -> Any: ...


# A path, questions, records with the fields of a questions file, or a DataFrame with such columns.
Questions = str | Path | Iterable[Question] | Iterable[Mapping[str, Any]] | DataFrame


def questions_of(given: Questions) -> list[messages.Question]:
    """Return the questions in their order, of a file too. Raises UserError that names the first one that is none."""
    if isinstance(given, str | Path):
        return read_questions(Path(given).expanduser())
    records = [Record(where=f"questions[{i}]", index=i, value=value) for i, value in enumerate(_values(given))]
    if not records:
        raise UserError("There are no questions: give floe.Question(db_id=..., question=..., gold_sql=...), or a file.")
    found = found_questions(records, guessed_fields((one.value for one in records), NO_FIELDS))
    for bad in found.bad[:1]:
        raise UserError(f"{bad.where} {bad.detail}.")
    return list(found.questions)


def write_questions(path: Path, questions: Sequence[messages.Question]) -> None:
    """Write a file that `read_questions` reads as these questions. Raises UserError when it can't be written."""
    records = [
        {
            "question_id": one.question_id,
            "db_id": one.database_id,
            "question": one.text,
            "query": list(one.gold_sql),
            "evidence": one.evidence,
            "difficulty": one.difficulty,
        }
        for one in questions
    ]
    try:
        write_whole(path, json.dumps(records, indent=1) + "\n")
    except OSError as fault:
        raise UserError(f"Can't write the questions to {path} ({fault.strerror}): choose another run_dir.") from fault


def _values(given: Any) -> Iterable[Any]:
    """Yield a record for each question."""
    if hasattr(given, "columns") and hasattr(given, "to_dict"):  # pandas, which need not be installed
        known = [name for name in given.columns if name in _KNOWN_FIELDS]
        lacks_one = any(set(known).isdisjoint(NAMES[what]) for what in ("database", "question", "sql"))
        # With all columns an error names those that there are; otherwise columns of no use are not converted.
        given = given[list(given.columns) if lacks_one else known].to_dict(orient="records")
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise UserError(
            f"questions is of type {type(given).__name__}: give floe.Question objects in a list, a DataFrame, or "
            "the path of a file."
        )
    for place, value in enumerate(given):
        if isinstance(value, Question):
            yield {
                "question_id": value.question_id,
                "db_id": value.db_id,
                "question": value.question,
                "query": value.gold_sql,
                "evidence": value.evidence,
            }
        elif isinstance(value, Mapping):
            yield {name: _plain(one) for name, one in value.items()}
        else:
            raise UserError(f"questions[{place}] is of type {type(value).__name__}: give floe.Question(...).")


def _plain(value: Any) -> Any:
    """Return numbers and arrays of NumPy, which a DataFrame holds, as Python's own."""
    return value.tolist() if hasattr(value, "tolist") else value
