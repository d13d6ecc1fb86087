"""The columns of a trainer's batch or data set, as the questions that its completions answer (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from floe.configs.errors import UserError

DATABASE, GOLD = "db_id", "gold_sql"


@dataclass(frozen=True, slots=True)
class Example:
    """What one completion answers. Completions of equal ones are judged together, so that a gold query runs once."""

    db_id: str
    gold_sql: tuple[str, ...]  # each is accepted
    question: str = ""  # for designs that read it
    evidence: str = ""
    prompt: str = ""  # tells questions apart that share a gold query


def examples_of(
    num_completions: int,
    db_id: object,
    gold_sql: object,
    question: object = None,
    evidence: object = None,
    prompts: object = None,
) -> list[Example]:
    """Return one example per completion.

    Each argument is a sequence with an entry per completion, or one text for all. An entry of `gold_sql` is a query or
    a sequence of accepted ones. Raises UserError for None, another length, and an entry that is no text.
    """
    databases = _column(DATABASE, db_id, num_completions)
    golds = _column(GOLD, gold_sql, num_completions)
    questions, evidences, asked = (
        [""] * num_completions if column is None else _column(name, column, num_completions)
        for name, column in (("question", question), ("evidence", evidence), ("prompts", prompts))
    )
    return [
        Example(
            db_id=database_of(databases[row], row),
            gold_sql=golds_of(golds[row], row),
            question=_optional_text(questions[row]),
            evidence=_optional_text(evidences[row]),
            prompt=_optional_text(asked[row]),
        )
        for row in range(num_completions)
    ]


def database_of(entry: object, row: int) -> str:
    """Return the database id. Raises UserError."""
    if isinstance(entry, str) and entry:
        return entry
    raise UserError(f"{DATABASE} of row {row} is {entry!r}: give the name of a database there, or drop the row.")


def golds_of(entry: object, row: int) -> tuple[str, ...]:
    """Return the accepted queries. Raises UserError where there is none."""
    golds = (entry,) if isinstance(entry, str) else tuple(_entries(entry))
    if golds and all(isinstance(one, str) and one.strip() for one in golds):
        return golds
    shown = repr(entry)[:80]
    raise UserError(f"{GOLD} of row {row} is {shown}: give a query or a list of accepted ones there, or drop the row.")


def _column(name: str, values: object, num_completions: int) -> Sequence[Any]:
    if values is None:
        raise UserError(f"{name} is None: give one text for all completions, or a list with an entry for each.")
    if isinstance(values, str):
        return [values] * num_completions
    column = list(_entries(values))
    if len(column) != num_completions:
        both = (
            f"; a list of texts has one query for each completion, and [[a, b]] * {num_completions} accepts several"
            if name == GOLD and all(isinstance(one, str) for one in column)
            else ""
        )
        raise UserError(
            f"The reward was given {num_completions} completions but {len(column)} entries of {name}: give as "
            f"many{both}."
        )
    return column


def _entries(values: object) -> Iterable[Any]:
    """Return the entries of a list or an array, none of what has no entries."""
    return values if isinstance(values, Iterable) and not isinstance(values, dict | bytes) else ()


def _optional_text(entry: object) -> str:
    """Return a text as it is, nothing for None, and what stands for anything else, such as a chat's messages."""
    return entry if isinstance(entry, str) else "" if entry is None else repr(entry)
