"""Views of a run's evaluations on the page: accuracy by database, and the questions that changed (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from floe.cluster.evaluation.intervals import Interval, mean_interval, paired_difference
from floe.cluster.evaluation.paired_comparison import McNemar, compare_evaluations
from floe.cluster.evaluation.saved_evaluation import Evaluation, QuestionRecord
from floe.cluster.messages import Outcome

MAX_CHANGED = 60  # questions shown each way


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseRow:
    """Greedy accuracy on the questions of one database; before and difference are None for a lone evaluation."""

    database_id: str
    num_questions: int
    before: Interval | None
    after: Interval
    difference: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedQuestion:
    question_id: str
    database_id: str
    text: str
    before: tuple[str | None, Outcome]  # SQL and outcome
    after: tuple[str | None, Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Changes of the greedy answers; `gained` and `lost` are cut at MAX_CHANGED, the test counts all."""

    num_questions: int
    test: McNemar
    gained: tuple[ChangedQuestion, ...]
    lost: tuple[ChangedQuestion, ...]


def database_rows(before: Evaluation | None, after: Evaluation, num_resamples: int) -> list[DatabaseRow]:
    """Return rows over the questions on which both have a verdict; databases with the most questions first."""
    earlier = None if before is None else {one.question_id: one for one in before.records}
    kept = [one for one in after.records if earlier is None or one.question_id in earlier]
    by_database: dict[str, list[QuestionRecord]] = {}
    for record in kept:
        by_database.setdefault(record.database_id, []).append(record)
    seed = after.identity.seed
    rows = []
    for database_id, records in sorted(by_database.items(), key=lambda item: (-len(item[1]), item[0])):
        values = _greedy(records)
        old = None if earlier is None else _greedy([earlier[one.question_id] for one in records])
        rows.append(
            DatabaseRow(
                database_id=database_id,
                num_questions=len(records),
                before=None if old is None else mean_interval(old, num_resamples, seed),
                after=mean_interval(values, num_resamples, seed),
                difference=None if old is None else paired_difference(values, old, num_resamples, seed),
            )
        )
    return rows


def changes(before: Evaluation, after: Evaluation) -> Changes:
    """Return the changes. Raises UserError when the two can't be compared."""
    compared = compare_evaluations(before, after, ("before", "after"), num_resamples=1)
    earlier, later = ({one.question_id: one for one in side.records} for side in (before, after))

    def shown(question_ids: Sequence[str]) -> tuple[ChangedQuestion, ...]:
        return tuple(_changed(earlier[one], later[one]) for one in question_ids[:MAX_CHANGED])

    return Changes(
        num_questions=compared.num_questions,
        test=compared.tests["greedy"],
        gained=shown([one.question_id for one in compared.gained]),
        lost=shown([one.question_id for one in compared.lost]),
    )


def _greedy(records: Sequence[QuestionRecord]) -> np.ndarray:
    return np.array([record.greedy.outcome is Outcome.MATCH for record in records], float)


def _changed(before: QuestionRecord, after: QuestionRecord) -> ChangedQuestion:
    return ChangedQuestion(
        question_id=after.question_id,
        database_id=after.database_id,
        text=after.text,
        before=(before.greedy.sql, before.greedy.outcome),
        after=(after.greedy.sql, after.greedy.outcome),
    )
