"""Makes questions of records: what is needed has to be there, what is optional never costs a question (pure)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floe.actors.records.fields import USUAL, Fields
from floe.actors.records.record_files import Record
from floe.cluster.databases.places import is_plain_name
from floe.cluster.messages import Question

NO_SQL_TEXTS = frozenset({"", "null", "none", "nan", "n/a"})  # what EHRSQL and pandas write for a question without one
MAX_SHOWN_NAMES, MAX_SHOWN_CHARACTERS = 12, 40  # of a record's fields, in a sentence on one that it lacks


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRecord:
    """A record that is no question, and why."""

    where: str
    question_id: str
    database_id: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundQuestions:
    questions: tuple[Question, ...]
    bad: tuple[BadRecord, ...]
    notes: tuple[str, ...]  # what was guessed, and which optional fields were converted or left out
    has_ids: bool  # the records' own ids; without them a question is called by its place in the file


class _Bad(Exception):
    """Raised with what is wrong with the present record."""


def found_questions(records: Sequence[Record], fields: Fields, database_id: str | None = None) -> FoundQuestions:
    """Return the records' questions, in their order; `database_id` is used where a record names none.

    A record that repeats another in all of these counts once, as two do in BIRD's mini-dev; of two that share an id
    alone the second is bad.
    """
    changes: Counter[str] = Counter()
    questions: dict[str, Question] = {}
    bad: list[BadRecord] = []
    for record in records:
        try:
            question = _question(record, fields, database_id, changes)
            first = questions.setdefault(question.question_id, question)
            if first != question:
                raise _Bad(f"has the question_id {question.question_id!r} of another: give each its own")
        except _Bad as fault:
            bad.append(
                BadRecord(
                    where=record.where,
                    question_id=question_id_text(_value(record.value, fields.names("question_id")))
                    or str(record.index),
                    database_id=str(_value(record.value, fields.names("database")) or database_id or ""),
                    detail=str(fault),
                )
            )
    notes = [fields.line(), *(f"{change} ({number} records)" for change, number in sorted(changes.items()))]
    return FoundQuestions(
        questions=tuple(questions.values()),
        bad=tuple(bad),
        notes=tuple(filter(None, notes)),
        has_ids=bool(fields.names("question_id")),
    )


def _question(record: Record, fields: Fields, database_id: str | None, changes: Counter[str]) -> Question:
    if record.fault:
        raise _Bad(record.fault)
    value = record.value
    if not isinstance(value, dict):
        raise _Bad("is not a JSON object: give db_id, question and query (or SQL) in each")
    return Question(
        question_id=_question_id(value, record.index, fields, changes),
        database_id=_database_id(value, fields, database_id),
        text=_text(value, fields, "question"),
        gold_sql=_gold_sql(value, fields),
        evidence=_optional_text(value, fields, "evidence", changes),
        difficulty=_optional_text(value, fields, "difficulty", changes),
    )


def _question_id(value: Mapping[str, Any], index: int, fields: Fields, changes: Counter[str]) -> str:
    given = _value(value, fields.names("question_id"))
    if given is None:
        return str(index)
    text = question_id_text(given)
    if text is None:
        raise _Bad("has a question_id that is neither text nor a whole number: correct it")
    if isinstance(given, float):
        changes["question_id is read as a whole number"] += 1
    return text


def question_id_text(value: Any) -> str | None:
    """Return an id as the text that questions are found by; None for a value that can't be an id."""
    if isinstance(value, float) and value.is_integer():  # what pandas makes of numbers in a column where one is missing
        return str(int(value))
    return str(value) if isinstance(value, int | str) and not isinstance(value, bool) else None


def _database_id(value: Mapping[str, Any], fields: Fields, database_id: str | None) -> str:
    found = _text(value, fields, "database", database_id)
    if not is_plain_name(found):  # it becomes a path below the databases folder and must not lead out of it
        raise _Bad(f"has the db_id {found!r}, which is no folder name: correct it")
    return found


def _text(value: Mapping[str, Any], fields: Fields, what: str, instead: str | None = None) -> str:
    names = fields.names(what)
    found = _value(value, names)
    if found is None and instead is not None:
        return instead
    if not isinstance(found, str) or not found.strip():
        raise _Bad(f"has no {names[0] if names else USUAL[what]}: give it as text{'' if names else _listed(value)}")
    return found


def _gold_sql(value: Mapping[str, Any], fields: Fields) -> tuple[str, ...]:
    given = {name: value[name] for name in fields.names("sql") if _is_filled(value.get(name))}
    if len(given) == 2 and given["query"] != given["SQL"]:
        raise _Bad("has both query and SQL, and they differ: leave out the wrong one")
    found = next(iter(given.values()), None)
    answers = found if isinstance(found, list | tuple) else [found]
    if not answers or not all(isinstance(one, str) and one.strip().lower() not in NO_SQL_TEXTS for one in answers):
        listed = "" if fields.names("sql") else _listed(value)
        raise _Bad(f"has no gold query: give it as text in query or SQL{listed}")
    return tuple(answers)


def _listed(value: Mapping[str, Any]) -> str:
    """Return the names that a record has, for a sentence on one that it lacks."""
    names = [str(name) for name in value]
    names = [name if len(name) <= MAX_SHOWN_CHARACTERS else f"{name[:MAX_SHOWN_CHARACTERS]}..." for name in names]
    more = ", ..." if len(names) > MAX_SHOWN_NAMES else ""
    return f" (its fields are {', '.join(names[:MAX_SHOWN_NAMES])}{more})" if names else " (it has no field)"


def _optional_text(value: Mapping[str, Any], fields: Fields, what: str, changes: Counter[str]) -> str:
    """Return numbers and lists of texts as a text; anything else is left out, and counted."""
    found = _value(value, fields.names(what))
    if found is None or isinstance(found, str):
        return found or ""
    if isinstance(found, bool | int | float):
        changes[f"{what} is a number, read as text"] += 1
        return str(found)
    if isinstance(found, list | tuple) and all(isinstance(one, str) for one in found):
        changes[f"{what} is a list, read line by line"] += 1
        return "\n".join(found)
    changes[f"{what} is left out: it is no text"] += 1
    return ""


def _value(value: Any, names: Sequence[str]) -> Any:
    if not isinstance(value, Mapping):
        return None
    return next((value[name] for name in names if _is_filled(value.get(name))), None)


def _is_filled(value: Any) -> bool:
    """Return whether the value is there: pandas writes NaN for a missing one."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))
