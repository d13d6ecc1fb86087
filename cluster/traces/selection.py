"""Chooses the traces among judged answers, and counts what became of each answer (pure)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from floe.cluster.messages import Outcome
from floe.cluster.traces.balance import balanced
from floe.cluster.traces.filters import Dropped, fault_of_thought, is_constant, longest_thought, words_of
from floe.cluster.traces.records import AskedQuestion, Sample, Trace
from floe.cluster.traces.thought_form import ReadAnswer, ThoughtForm


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What became of the answers to one split's questions."""

    num_sampled: int
    num_right: int
    dropped: dict[str, int]  # by the words of `Dropped`, each of them
    num_kept: int
    num_questions: int
    num_questions_kept: int
    num_databases: int
    num_databases_kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    train: tuple[Trace, ...]
    held_back: tuple[Trace, ...]
    coverage: dict[str, Coverage]  # by split

    def to_json(self) -> str:
        return json.dumps({name: _fields(one) for name, one in self.coverage.items()}, indent=1)

    def lines(self) -> list[str]:
        """Return the table for people, a line for each split and one for what was dropped of it."""
        shown = []
        for name, one in self.coverage.items():
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in one.dropped.items() if count)
            shown.append(
                f"traces of {name}: {one.num_sampled:,} answers, {one.num_right:,} right, {one.num_kept:,} kept, of "
                f"{one.num_questions_kept:,} of {one.num_questions:,} questions and {one.num_databases_kept:,} of "
                f"{one.num_databases:,} databases"
            )
            if reasons:
                shown.append(f"dropped of {name}: {reasons}")
        return shown


def select_traces(
    asked: Sequence[AskedQuestion], form: ThoughtForm, answer_start: str, most: int, seed: int
) -> Selection:
    """Return what is kept of the answers; `most` limits the traces of a question.

    An answer has one reason at most, the first in the order of `Dropped`. Which are kept does not depend on the order
    of the questions.
    """
    right = [
        (one, sample, form.read(answer_start + sample.completion))
        for one in asked
        for sample in one.samples
        if sample.outcome is Outcome.MATCH and not sample.truncated
    ]
    limit = longest_thought([len(words_of(read.thought)) for _, _, read in right if read is not None])
    reasons: dict[bool, Counter[Dropped]] = {False: Counter(), True: Counter()}
    for one in asked:
        for sample in one.samples:
            if not sample.outcome.carries_reward:
                reasons[one.is_held_back][Dropped.NO_VERDICT] += 1
            elif sample.outcome is not Outcome.MATCH:
                reasons[one.is_held_back][Dropped.WRONG] += 1
            elif sample.truncated:
                reasons[one.is_held_back][Dropped.TRUNCATED] += 1
    candidates: list[Trace] = []
    seen: set[tuple[bool, str, str]] = set()
    for one, sample, read in right:
        fault = _fault(sample, read, limit)
        if fault is None and read is not None:
            key = one.is_held_back, one.question.question_id, "".join(read.text.split())
            fault = Dropped.DUPLICATE if key in seen else None
            seen.add(key)
        if fault is None and read is not None:
            candidates.append(_trace(one, sample, read.text[len(answer_start) :]))
        elif fault is not None:
            reasons[one.is_held_back][fault] += 1
    kept = balanced(candidates, most, seed)
    for is_held in (False, True):
        num_before = sum(one.is_held_back == is_held for one in candidates)
        reasons[is_held][Dropped.BALANCE] = num_before - sum(one.is_held_back == is_held for one in kept)
    names = {"train": False} | ({"tune": True} if any(one.is_held_back for one in asked) else {})
    return Selection(
        train=tuple(one for one in kept if not one.is_held_back),
        held_back=tuple(one for one in kept if one.is_held_back),
        coverage={name: _coverage(asked, kept, is_held, reasons[is_held]) for name, is_held in names.items()},
    )


def _fault(sample: Sample, read: ReadAnswer | None, limit: float) -> Dropped | None:
    if read is None:
        return Dropped.FORM
    if fault := fault_of_thought(read.thought, limit):
        return fault
    if is_constant(sample.sql or ""):
        return Dropped.CONSTANT
    return Dropped.EMPTY if sample.num_rows == 0 else None


def _trace(one: AskedQuestion, sample: Sample, completion: str) -> Trace:
    return Trace(
        question=one.question,
        is_held_back=one.is_held_back,
        completion=completion,
        sql=sample.sql or "",
        pass_rate=one.pass_rate,
    )


def _coverage(
    asked: Sequence[AskedQuestion], kept: Sequence[Trace], is_held_back: bool, reasons: Counter[Dropped]
) -> Coverage:
    own = [one for one in asked if one.is_held_back == is_held_back]
    left = [one for one in kept if one.is_held_back == is_held_back]
    return Coverage(
        num_sampled=sum(len(one.samples) for one in own),
        num_right=sum(one.num_right for one in own),
        dropped={reason.value: reasons[reason] for reason in Dropped},
        num_kept=len(left),
        num_questions=len(own),
        num_questions_kept=len({one.question.question_id for one in left}),
        num_databases=len({one.question.database_id for one in own}),
        num_databases_kept=len({one.question.database_id for one in left}),
    )


def _fields(one: Coverage) -> dict[str, object]:
    return {name: getattr(one, name) for name in Coverage.__dataclass_fields__}
