"""Evaluations of several seeds of one recipe, beside one evaluation or each beside its own: by seed, and their mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from floe.cluster.evaluation.before_after_table import percent
from floe.cluster.evaluation.intervals import Interval, paired_difference
from floe.cluster.evaluation.paired_comparison import PairedComparison, compare_evaluations
from floe.cluster.evaluation.saved_evaluation import Evaluation, QuestionRecord
from floe.cluster.evaluation.summary import Measure, is_shown, measures
from floe.configs.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedComparison:
    """The differences of several evaluations to A, or each to its own A, and their mean: above 0 is in favour of B."""

    a: str  # empty: each has its own
    by_seed: tuple[PairedComparison, ...]
    num_questions: int  # that every side has a verdict on
    mean: dict[str, Interval]  # the interval covers questions, not seeds

    def to_json(self) -> str:
        """Return indented JSON text."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"

    def render(self, console: Console) -> None:
        """Print the table and how to read it."""
        about = f"paired difference in points with 95 % interval; the mean over {self.num_questions} questions"
        title = f"To {self.a}: {about}" if self.a else f"B to its A, {about}"
        table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("measure")
        for number in range(1, len(self.by_seed) + 1):
            table.add_column(f"B{number}", justify="right")
        table.add_column("mean", justify="right")
        for name, interval in self.mean.items():
            if is_shown(name, self.by_seed[0].num_samples):
                values = [percent(one.differences[name], sign="+") for one in self.by_seed]
                table.add_row(Text(name), *values, percent(interval, sign="+"))
        console.print(table)
        for number, one in enumerate(self.by_seed, 1):
            own = "" if self.a else f", to {one.a}"
            console.print(Text(f"B{number}: {one.b}{own}"), soft_wrap=True)
        console.print("The mean's interval covers questions; how far seeds differ shows in the columns.")


def compare_seeds(
    firsts: Sequence[Evaluation],
    seeds: Sequence[Evaluation],
    first_names: Sequence[str],
    names: Sequence[str],
    num_resamples: int,
) -> SeedComparison:
    """Compare several evaluations with one, or each with its own of `firsts`.

    Raises UserError unless all were asked, prompted and judged alike.
    """
    is_one = len(firsts) == 1
    before_of = list(firsts) * len(seeds) if is_one else list(firsts)
    before_names = list(first_names) * len(seeds) if is_one else list(first_names)
    by_seed = tuple(
        compare_evaluations(a, b, pair, num_resamples)
        for a, b, pair in zip(before_of, seeds, zip(before_names, names, strict=True), strict=True)
    )
    sides = [{record.question_id: record for record in one.records} for one in (*before_of, *seeds)]
    common = [one for one in sides[0] if all(one in side for side in sides)]
    if not common:
        raise UserError("The evaluations have no question in common that all have a verdict on.")
    mean: dict[str, Interval] = {}
    for name, measure in measures(firsts[0]).items():
        if not all(name in one.differences for one in by_seed):
            continue
        values = [[_mean(measure, [side[one] for side in some]) for one in common] for some in _halves(sides)]
        kept = np.array([pair for pair in zip(*values, strict=True) if None not in pair], float)
        if len(kept):
            mean[name] = paired_difference(kept[:, 1], kept[:, 0], num_resamples, firsts[0].identity.seed)
    a_name = first_names[0] if is_one else ""
    return SeedComparison(a=a_name, by_seed=by_seed, num_questions=len(common), mean=mean)


def _halves(sides: list[dict[str, QuestionRecord]]) -> tuple[list[dict[str, QuestionRecord]], ...]:
    half = len(sides) // 2
    return sides[:half], sides[half:]


def _mean(measure: Measure, records: Sequence[QuestionRecord]) -> float | None:
    """Return the mean over the seeds, None where one of them has none."""
    known = [value for one in records if (value := measure(one)) is not None]
    return sum(known) / len(known) if len(known) == len(records) else None
