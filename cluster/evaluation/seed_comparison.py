"""Evaluations of several seeds of one recipe beside one evaluation: differences by seed, and those of their mean."""

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
    """The differences of several evaluations to A, and of their mean: above 0 is in favour of them."""

    a: str
    by_seed: tuple[PairedComparison, ...]
    num_questions: int  # that every side has a verdict on
    mean: dict[str, Interval]  # the interval covers questions, not seeds

    def to_json(self) -> str:
        """Return indented JSON text."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"

    def render(self, console: Console) -> None:
        """Print the table and how to read it."""
        title = (
            f"To {self.a}: paired difference in points with 95 % interval; the mean over {self.num_questions} questions"
        )
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
            console.print(Text(f"B{number}: {one.b}"), soft_wrap=True)
        console.print("The mean's interval covers questions; how far seeds differ shows in the columns.")


def compare_seeds(
    a: Evaluation, seeds: Sequence[Evaluation], a_name: str, names: Sequence[str], num_resamples: int
) -> SeedComparison:
    """Compare several evaluations with one. Raises UserError unless all were asked, prompted and judged alike."""
    by_seed = tuple(
        compare_evaluations(a, one, (a_name, name), num_resamples) for one, name in zip(seeds, names, strict=True)
    )
    before = {record.question_id: record for record in a.records}
    after = [{record.question_id: record for record in one.records} for one in seeds]
    common = [one for one in before if all(one in side for side in after)]
    if not common:
        raise UserError("The evaluations have no question in common that all have a verdict on.")
    mean: dict[str, Interval] = {}
    for name, measure in measures(a).items():
        if not all(name in one.differences for one in by_seed):
            continue
        pairs = [_pair(measure, before[one], [side[one] for side in after]) for one in common]
        kept = np.array([pair for pair in pairs if pair is not None], float)
        if len(kept):
            mean[name] = paired_difference(kept[:, 0], kept[:, 1], num_resamples, a.identity.seed)
    return SeedComparison(a=a_name, by_seed=by_seed, num_questions=len(common), mean=mean)


def _pair(measure: Measure, before: QuestionRecord, after: Sequence[QuestionRecord]) -> tuple[float, float] | None:
    """Return the seeds' mean and the value of A, None where one of them has none."""
    old, new = measure(before), [measure(one) for one in after]
    known = [one for one in new if one is not None]
    if old is None or len(known) < len(new):
        return None
    return sum(known) / len(known), float(old)
