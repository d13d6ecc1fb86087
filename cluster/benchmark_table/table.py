"""The figures of a table: accuracy by data set and policy, paired differences, and the macro average (pure)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from floe.cluster.benchmark_table.averages import macro_interval, smallest_resolved
from floe.cluster.benchmark_table.filling import Filled
from floe.cluster.benchmark_table.rows import Row
from floe.cluster.benchmark_table.table_file import MACRO_AVERAGE
from floe.cluster.evaluation.intervals import Interval, mean_interval, paired_difference
from floe.cluster.evaluation.plain_words import MIN_QUESTIONS
from floe.cluster.evaluation.saved_evaluation import EndpointUse, Evaluation
from floe.cluster.evaluation.summary import measures
from floe.configs.errors import UserError

Values = dict[str, dict[str, np.ndarray]]  # by measure and policy, a number for each common question


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A paired difference to the first policy, and the smallest one that such an interval tells from 0."""

    interval: Interval
    resolves: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCell:
    """The figures of one policy on one data set, or of its macro average; a share of questions each."""

    policy: str
    fault: str | None = None
    left_out: tuple[str, ...] = ()  # question and reason
    figures: Mapping[str, Interval]
    differences: Mapping[str, Difference]  # empty for the first policy
    endpoint: EndpointUse | None = None  # what the answers of a model behind one took


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """A data set. The figures are over `num_questions`, on which every policy has a verdict."""

    name: str
    semantics: str = ""
    fault: str | None = None
    num_questions: int = 0
    num_left_out: int = 0
    is_small: bool = False  # so few questions tell no gain from chance
    notes: tuple[str, ...] = ()
    cells: tuple[TableCell, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkTable:
    policies: tuple[str, ...]
    num_samples: int  # 0: greedy answers alone
    rows: tuple[TableRow, ...]
    macro: TableRow | None  # None without a data set that all policies have answered
    macro_of: tuple[str, ...]  # the data sets that it averages

    @property
    def has_faults(self) -> bool:
        return any(row.fault is not None or any(one.fault is not None for one in row.cells) for row in self.rows)

    def to_json(self) -> str:
        """Return indented JSON text."""
        return json.dumps(asdict(self) | {"has_faults": self.has_faults}, indent=2, allow_nan=False) + "\n"


def table_of(filled: Filled, *, num_samples: int, num_resamples: int, seed: int) -> BenchmarkTable:
    """Make the table. The macro average is over the data sets that every policy with any answer has answered."""
    names = [column.name for column in filled.columns]
    answered = [name for name in names if any(place[1] == name for place in filled.evaluations)]
    rows, values = [], {}
    for row in filled.rows:
        made, of_row = _row(row, filled, names, num_resamples, seed)
        rows.append(made)
        if made.fault is None and not any(one.fault for one in made.cells if one.policy in answered):
            values[row.name] = of_row
    macro = _macro(list(values.values()), answered, names, num_resamples, seed) if values else None
    if macro is not None:
        macro = replace(macro, num_left_out=sum(one.num_left_out for one in rows if one.name in values))
    return BenchmarkTable(
        policies=tuple(names), num_samples=num_samples, rows=tuple(rows), macro=macro, macro_of=tuple(values)
    )


def _row(row: Row, filled: Filled, names: Sequence[str], num_resamples: int, seed: int) -> tuple[TableRow, Values]:
    if row.fault is not None:
        return TableRow(name=row.name, fault=row.fault), {}
    found = {name: one for name in names if (one := filled.evaluations.get((row.name, name))) is not None}
    values, num_questions, fault = common_values(found)
    cells = []
    for name in names:
        of_policy = found.get(name)
        cells.append(
            TableCell(
                policy=name,
                fault=fault or filled.faults.get((row.name, name)),
                left_out=() if of_policy is None else of_policy.left_out,
                endpoint=None if of_policy is None else of_policy.endpoint,
                figures={
                    measure: mean_interval(of_measure[name], num_resamples, seed)
                    for measure, of_measure in values.items()
                    if name in of_measure
                },
                differences=_differences(values, name, names[0], num_resamples, seed),
            )
        )
    num_asked = max((one.num_asked for one in found.values()), default=0)
    made = TableRow(
        name=row.name,
        semantics=row.config.reward.semantics + (" with a suite" if row.config.reward.suite else ""),
        num_questions=num_questions,
        num_left_out=num_asked - num_questions,
        is_small=0 < num_questions < MIN_QUESTIONS,
        notes=row.notes,
        cells=tuple(cells),
    )
    return made, values


def common_values(found: Mapping[str, Evaluation]) -> tuple[Values, int, str | None]:
    """Return each measure on the questions that all have a verdict on, their number, and a fault without any.

    A measure that is missing on a question for some policy, as soft F1 of a huge result, leaves that question out.
    """
    if not found:
        return {}, 0, None
    records = {name: {one.question_id: one for one in evaluation.records} for name, evaluation in found.items()}
    first, *others = records.values()
    common = [one for one in first if all(one in other for other in others)]
    if not common:
        return {}, 0, "No question has a usable verdict for every policy."
    values: Values = {}
    for measure, of_record in measures(next(iter(found.values()))).items():
        if "timing" in measure:
            continue
        listed = {name: [of_record(of_policy[one]) for one in common] for name, of_policy in records.items()}
        kept = [at for at in range(len(common)) if all(one[at] is not None for one in listed.values())]
        if kept:
            values[measure] = {name: np.array(one, float)[kept] for name, one in listed.items()}
    return values, len(common), None


def _differences(values: Values, name: str, first: str, num_resamples: int, seed: int) -> dict[str, Difference]:
    made = {}
    for measure, of_measure in values.items():
        if name != first and name in of_measure and first in of_measure:
            interval = paired_difference(of_measure[name], of_measure[first], num_resamples, seed)
            made[measure] = Difference(
                interval=interval, resolves=smallest_resolved(interval, [interval.num_questions])
            )
    return made


def _macro(
    sets: Sequence[Values], answered: Sequence[str], names: Sequence[str], num_resamples: int, seed: int
) -> TableRow:
    shared = [measure for measure in sets[0] if all(measure in one for one in sets)]
    cells = []
    for name in names:
        figures = {}
        if name in answered:
            figures = {one: macro_interval([of[one][name] for of in sets], num_resamples, seed) for one in shared}
        differences = {}
        if name in answered and name != names[0] and names[0] in answered:
            differences = {one: macro_difference(sets, one, name, names[0], num_resamples, seed) for one in shared}
        cells.append(TableCell(policy=name, figures=figures, differences=differences))
    num_questions = max((one.num_questions for cell in cells for one in cell.figures.values()), default=0)
    return TableRow(name=MACRO_AVERAGE, num_questions=num_questions, cells=tuple(cells))


def macro_difference(
    sets: Sequence[Values], measure: str, name: str, first: str, num_resamples: int, seed: int
) -> Difference:
    """Return the macro average of the paired differences of `name` to `first`."""
    paired = [one[measure][name] - one[measure][first] for one in sets]
    interval = macro_interval(paired, num_resamples, seed)
    return Difference(interval=interval, resolves=smallest_resolved(interval, [len(one) for one in paired]))


def shown_measures(num_samples: int) -> tuple[str, ...]:
    """Return the measures that the terminal shows; the JSON has them all."""
    if num_samples == 0:
        return ("greedy",)
    return ("greedy", f"mean of {num_samples}", *([f"pass@{num_samples}"] if num_samples > 1 else []), "vote, exact")


def nothing_answered(table: BenchmarkTable) -> UserError | None:
    """Return the error of a table in which no cell could be filled."""
    if table.macro is not None or any(one.figures for row in table.rows for one in row.cells):
        return None
    faults = [one for row in table.rows for one in (row.fault, *(cell.fault for cell in row.cells)) if one]
    return UserError(f"No cell of the table could be filled; the first fault: {faults[0] if faults else 'none'}")
