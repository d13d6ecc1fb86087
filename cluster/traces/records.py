"""Answers to be kept as traces, with their verdicts: the records of `samples.jsonl` and `traces.jsonl` (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from floe.cluster.messages import Outcome, Question
from floe.configs.files.foreign_files import parsed_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer and its verdict; `completion` is what follows the prompt's prefill."""

    completion: str
    truncated: bool
    outcome: Outcome
    sql: str | None  # what was executed, after extraction
    num_rows: int | None  # of the result; None where that was not profiled


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedQuestion:
    """All answers to one question, in the order of their streams."""

    question: Question
    is_held_back: bool  # it is of the split `tune`
    samples: tuple[Sample, ...]

    @property
    def num_judged(self) -> int:
        return sum(one.outcome.carries_reward for one in self.samples)

    @property
    def num_right(self) -> int:
        return sum(one.outcome is Outcome.MATCH for one in self.samples)

    @property
    def pass_rate(self) -> float:
        """Share right of the judged answers; 0 without any."""
        return self.num_right / self.num_judged if self.num_judged else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A kept answer; `completion` ends with the last tag of the style's form."""

    question: Question
    is_held_back: bool
    completion: str
    sql: str
    pass_rate: float  # of its question


def sample_line(asked: AskedQuestion) -> str:
    """Return the line of `samples.jsonl`, without its end."""
    return json.dumps(
        {
            "question_id": asked.question.question_id,
            "is_held_back": asked.is_held_back,
            "samples": [asdict(one) for one in asked.samples],
        },
        ensure_ascii=False,
    )


def read_samples(
    lines: Iterable[bytes], train: Sequence[Question], held_back: Sequence[Question]
) -> dict[tuple[bool, str], AskedQuestion]:
    """Return what lines of `samples.jsonl` hold, by (is held back, question id); other lines are left out."""
    known = {(is_held, one.question_id): one for is_held, many in ((False, train), (True, held_back)) for one in many}
    found = {}
    for line in lines:
        try:
            fields = parsed_json(line)
            key = bool(fields["is_held_back"]), str(fields["question_id"])
            samples = tuple(Sample(**(one | {"outcome": Outcome(one["outcome"])})) for one in fields["samples"])
        except (ValueError, KeyError, TypeError):
            continue  # damaged, and asked again
        if key in known:
            found[key] = AskedQuestion(question=known[key], is_held_back=key[0], samples=samples)
    return found


def trace_lines(traces: Iterable[Trace]) -> str:
    """Return the content of `traces.jsonl`, which may be given to another run as `warm_start.traces`."""
    return "".join(
        json.dumps(
            {
                "question_id": one.question.question_id,
                "database_id": one.question.database_id,
                "question": one.question.text,
                "split": "tune" if one.is_held_back else "train",
                "completion": one.completion,
                "sql": one.sql,
                "pass_rate": one.pass_rate,
            },
            ensure_ascii=False,
        )
        + "\n"
        for one in traces
    )
