"""Two evaluations of the same questions: paired differences, McNemar's test, and the questions that changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import comb

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from floe.cluster.evaluation.before_after_table import percent
from floe.cluster.evaluation.intervals import Interval, paired_difference
from floe.cluster.evaluation.saved_evaluation import Evaluation, EvaluationIdentity, QuestionRecord
from floe.cluster.evaluation.summary import Measure, is_shown, measures
from floe.configs.errors import UserError

MAY_DIFFER = ("model", "adapter", "seed")
TESTED = ("greedy", "vote, exact", "vote, soft")  # by them a question is right or wrong
MAX_SHOWN = 10  # changed questions each way; the JSON has them all
_SAID = {
    "harness_version": "the version of the harness",
    "prompt_digest": "the prompts",
    "questions_digest": "the questions",
    "databases_digest": "the databases",
    "comparator": "the comparator",
    "num_samples": "the number of samples",
    "temperature": "the temperature",
    "max_new_tokens": "the longest completion",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """McNemar's exact test: how many of the changed questions changed each way, and the two-sided p value."""

    num_gained: int
    num_lost: int
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    question_id: str
    database_id: str
    text: str
    sql_before: str | None
    sql_after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedComparison:
    """The difference of B to A: above 0, and a gain, is in favour of B."""

    a: str
    b: str
    num_samples: int
    num_questions: int
    num_left_out: int  # questions without a verdict on one side or both
    clocks: tuple[str, ...]  # clocks of both in UTC, where they differ
    differences: dict[str, Interval]
    tests: dict[str, McNemar]
    gained: tuple[Changed, ...]  # by the greedy answer
    lost: tuple[Changed, ...]

    def to_json(self) -> str:
        """Return indented JSON text."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"

    def render(self, console: Console) -> None:
        """Print table and changed questions; the table fits 100 columns."""
        console.print(_table(self))
        if self.clocks:
            console.print(
                f"For the present time SQL got {' and '.join(self.clocks)}: answers that ask for it may differ."
            )
        if self.num_left_out:
            console.print(f"{self.num_left_out} questions left out: one of the two has no usable verdict on them.")
        for title, changed in (("now right", self.gained), ("now wrong", self.lost)):
            console.print(f"{len(changed)} questions {title}" + (":" if changed else "."))
            for one in changed[:MAX_SHOWN]:
                line = f"  {one.question_id} ({one.database_id}): {' '.join(one.text.split())}"
                console.print(Text(line), soft_wrap=True)
            if len(changed) > MAX_SHOWN:
                console.print(f"  and {len(changed) - MAX_SHOWN} more, which --json names")


def compare_evaluations(a: Evaluation, b: Evaluation, names: tuple[str, str], num_resamples: int) -> PairedComparison:
    """Compare two evaluations. Raises UserError unless both were asked, prompted and judged in the same way."""
    _check_same_identity(a.identity, b.identity)
    before, after = ({record.question_id: record for record in side.records} for side in (a, b))
    common = [question_id for question_id in before if question_id in after]
    if not common:
        raise UserError("The two evaluations have no question in common that both have a verdict on.")
    measured_by = {name: measure for name, measure in measures(a).items() if "timing" not in name}
    differences: dict[str, Interval] = {}
    for name, measure in measured_by.items():
        pairs = [(measure(after[one]), measure(before[one])) for one in common]
        kept = np.array([(x, y) for x, y in pairs if x is not None and y is not None], float)
        if len(kept):
            differences[name] = paired_difference(kept[:, 0], kept[:, 1], num_resamples, b.identity.seed)
    gained = {name: _better(measured_by[name], common, after, before) for name in TESTED}
    lost = {name: _better(measured_by[name], common, before, after) for name in TESTED}
    return PairedComparison(
        a=names[0],
        b=names[1],
        num_samples=a.identity.num_samples,
        num_questions=len(common),
        num_left_out=a.num_asked - len(common),
        clocks=tuple(one.clock or "the machine's" for one in (a, b)) if a.clock != b.clock else (),
        differences=differences,
        tests={name: mcnemar(len(gained[name]), len(lost[name])) for name in TESTED},
        gained=tuple(_changed(before[one], after[one]) for one in gained["greedy"]),
        lost=tuple(_changed(before[one], after[one]) for one in lost["greedy"]),
    )


def mcnemar(num_gained: int, num_lost: int) -> McNemar:
    """Test exactly: under the null a gain is as likely as a loss (McNemar 1947; two-sided)."""
    num_changed = num_gained + num_lost
    tail = sum(comb(num_changed, count) for count in range(min(num_gained, num_lost) + 1))
    return McNemar(num_gained=num_gained, num_lost=num_lost, p_value=min(1.0, 2 * tail / 2**num_changed))


def _better(
    measure: Measure,
    question_ids: Sequence[str],
    these: Mapping[str, QuestionRecord],
    those: Mapping[str, QuestionRecord],
) -> list[str]:
    """Return the questions that `these` have right and `those` have wrong."""
    return [one for one in question_ids if measure(these[one]) and not measure(those[one])]


def _check_same_identity(a: EvaluationIdentity, b: EvaluationIdentity) -> None:
    for field in fields(EvaluationIdentity):
        ours, theirs = getattr(a, field.name), getattr(b, field.name)
        if field.name not in MAY_DIFFER and ours != theirs:
            raise UserError(
                f"The two evaluations can't be compared: {_SAID[field.name]} differ ({ours} and {theirs}); "
                "evaluate both in the same way."
            )


def _changed(before: QuestionRecord, after: QuestionRecord) -> Changed:
    return Changed(
        question_id=before.question_id,
        database_id=before.database_id,
        text=before.text,
        sql_before=before.greedy.sql,
        sql_after=after.greedy.sql,
    )


def _table(report: PairedComparison) -> Table:
    title = (
        f"{report.b} to {report.a}: paired difference in points with 95 % interval, {report.num_questions} questions"
    )
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("measure", "difference", "gained", "lost", "McNemar's p"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for name, interval in report.differences.items():
        if not is_shown(name, report.num_samples):
            continue
        test = report.tests.get(name)
        cells = ("", "", "") if test is None else (str(test.num_gained), str(test.num_lost), f"{test.p_value:.3g}")
        table.add_row(Text(name), percent(interval, sign="+"), *cells)
    return table
