"""Decides which questions are kept, and says why each other one is not (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from floe.actors.questions.normal_forms import normal_question, normal_sql
from floe.cluster.messages import GoldInspection, Outcome, Question

BAD_RECORD = "bad_record"  # the record is no question
REASONS = (
    BAD_RECORD, "database_missing", "gold_fails", "gold_slow", "not_deterministic", "empty_result", "degenerate",
    "overlap_question", "overlap_gold", "duplicate_question",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    question: Question
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    kept: tuple[Question, ...]
    dropped: tuple[Dropped, ...]
    left_out_golds: tuple[Dropped, ...]  # golds of questions that are kept for another gold


@dataclass(frozen=True, slots=True)
class Overlap:
    """Normal forms of the questions of an evaluation, and where each stands."""

    questions: Mapping[str, str]
    golds: Mapping[str, str]

    @classmethod
    def of(cls, questions_by_file: Mapping[str, Sequence[Question]]) -> Overlap:
        questions: dict[str, str] = {}
        golds: dict[str, str] = {}
        for file, asked in questions_by_file.items():
            for one in asked:
                where = f"{file}, question {one.question_id}"
                questions.setdefault(normal_question(one.text), where)
                for sql in one.gold_sql:
                    golds.setdefault(normal_sql(sql), where)
        return cls(questions, golds)

    def fault(self, question: Question) -> tuple[str, str] | None:
        """Return the fault. Equal golds count whatever their databases are called: derived sets rename them."""
        if where := self.questions.get(normal_question(question.text)):
            return "overlap_question", f"also in {where}"
        found = next((where for sql in question.gold_sql if (where := self.golds.get(normal_sql(sql)))), None)
        return ("overlap_gold", f"also in {found}") if found else None


Key = tuple[str, str]  # database, gold SQL


def select(
    questions: Sequence[Question],
    missing: Mapping[str, str],
    inspections: Mapping[Key, GoldInspection],
    overlap: Overlap,
    time_limit_s: float,
    seen: dict[Key, str],
) -> Selection:
    """Return the questions to keep and those dropped, each with its reason; `missing` says why a database can't be
    used.

    A gold that is not sound is left out, and its question is dropped when no other is left. `seen` gives the id of each
    question kept before, by database and normal form, and is added to.
    """
    kept: list[Question] = []
    dropped: list[Dropped] = []
    left_out: list[Dropped] = []
    for question in questions:
        if fault := missing.get(question.database_id):
            dropped.append(Dropped(question=question, reason="database_missing", detail=fault))
            continue
        faults = [gold_fault(inspections[question.database_id, sql], time_limit_s) for sql in question.gold_sql]
        sound = tuple(sql for sql, fault in zip(question.gold_sql, faults, strict=True) if fault is None)
        if not sound:
            reason, detail = next(fault for fault in faults if fault is not None)
            dropped.append(Dropped(question=question, reason=reason, detail=detail))
            continue
        key = question.database_id, normal_question(question.text)
        found = overlap.fault(question)
        if found is None and key in seen:
            found = "duplicate_question", f"the same as question {seen[key]}"
        if found is not None:
            dropped.append(Dropped(question=question, reason=found[0], detail=found[1]))
            continue
        seen[key] = question.question_id
        kept.append(replace(question, gold_sql=sound))
        left_out += [Dropped(question=question, reason=f[0], detail=f[1]) for f in faults if f is not None]
    return Selection(kept=tuple(kept), dropped=tuple(dropped), left_out_golds=tuple(left_out))


def gold_fault(inspection: GoldInspection, time_limit_s: float) -> tuple[str, str] | None:
    """Return reason and detail, the first of REASONS that holds; None for a gold that may judge."""
    outcome = inspection.outcome
    if outcome is Outcome.INFRASTRUCTURE:
        return "database_missing", inspection.message
    if outcome is Outcome.TIMEOUT:
        return "gold_slow", f"one of two runs took more than {time_limit_s:g} s of CPU time"
    if not outcome.executes:
        return "gold_fails", f"{outcome}: {inspection.message}"
    if inspection.changes_by:
        return "not_deterministic", f"depends on chance by {', '.join(inspection.changes_by)}"
    if outcome is Outcome.MISMATCH:
        return "not_deterministic", "two runs gave different results"
    if inspection.num_rows == 0:
        return "empty_result", "the gold returns no rows"
    if inspection.is_degenerate:
        return "degenerate", "the gold returns a single row of nothing but NULL and 0"
    return None
