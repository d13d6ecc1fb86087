"""The figures of one evaluation: each a share of questions with its interval, overall and by part."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from floe.cluster.evaluation.before_after_table import MAX_SHOWN_LEFT_OUT, percent
from floe.cluster.evaluation.intervals import Interval, mean_interval, pass_at_k
from floe.cluster.evaluation.saved_evaluation import (
    EndpointUse,
    Evaluation,
    EvaluationIdentity,
    QuestionRecord,
    json_fields,
)
from floe.cluster.evaluation.sql_hardness import LEVELS
from floe.configs.errors import UserError

_LEVELS_IN_ORDER = (*LEVELS, "simple", "moderate", "challenging")
Measure = Callable[[QuestionRecord], float | None]  # None where it was not measured


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSummary:
    """Intervals by metric, in the order of the table; a metric that was measured nowhere is left out."""

    identity: EvaluationIdentity
    num_left_out: int
    left_out: tuple[str, ...]
    overall: dict[str, Interval]
    by_hardness: dict[str, dict[str, Interval]]
    by_database: dict[str, dict[str, Interval]]
    endpoint: EndpointUse | None = None  # of a model behind one
    by_source: dict[str, dict[str, Interval]] = field(default_factory=dict)  # of a mixture; empty without one

    def to_json(self) -> str:
        """Return indented JSON text."""
        return json.dumps(json_fields(self), indent=2, allow_nan=False) + "\n"

    def render(self, console: Console) -> None:
        """Print the tables; they fit 100 columns."""
        console.print(_overall_table(self))
        if self.endpoint is not None:
            for line in use_lines(self.endpoint):
                console.print(Text(line), soft_wrap=True)
        sources = [("By source", self.by_source)] if self.by_source else []
        for title, parts in (*sources, ("By hardness", self.by_hardness), ("By database", self.by_database)):
            console.print(_parts_table(title, parts))
        if self.num_left_out:
            console.print(f"{self.num_left_out} questions left out: they have no usable verdict.")
            for line in self.left_out[:MAX_SHOWN_LEFT_OUT]:
                console.print(Text(f"  {line}"), soft_wrap=True)


def measures(evaluation: Evaluation) -> dict[str, Measure]:
    """Return the measures of each question, by their names in tables and JSON."""
    num_samples = evaluation.identity.num_samples
    by_name: dict[str, Measure] = {
        "greedy": lambda record: record.greedy.outcome.value == "match",
        f"mean of {num_samples}": lambda record: record.num_correct / num_samples,
    }
    by_name |= {f"pass@{k}": _pass_at(num_samples, k) for k in range(1, num_samples + 1)}
    by_name |= {
        "vote, exact": lambda record: record.exact_vote_correct,
        "vote, soft": lambda record: record.soft_vote_correct,
        "greedy executes": lambda record: record.greedy.outcome.executes,
        "samples execute": lambda record: record.num_executes / num_samples,
        "BIRD EX": lambda record: record.greedy.is_bird_match,
        "BIRD soft F1": lambda record: record.greedy.soft_f1,
        "BIRD R-VES (depends on timing)": lambda record: record.greedy.r_ves,
        "Spider execution": lambda record: record.greedy.is_spider_match,
    }
    if evaluation.has_suite:
        by_name["Spider test suite"] = by_name["greedy"]
    return by_name


def summary(evaluation: Evaluation, num_resamples: int) -> EvaluationSummary:
    """Summarise the evaluation. Raises UserError for one without a question."""
    if not evaluation.records:
        raise UserError("No question has a usable verdict: see why in the messages of the reward workers.")
    by_name = measures(evaluation)

    def intervals(records: Sequence[QuestionRecord], names: Iterable[str]) -> dict[str, Interval]:
        values = {name: [value for one in records if (value := by_name[name](one)) is not None] for name in names}
        seed = evaluation.identity.seed
        return {name: mean_interval(np.array(v, float), num_resamples, seed) for name, v in values.items() if v}

    of_parts = ("greedy", f"pass@{evaluation.identity.num_samples}", "vote, exact", "greedy executes")
    return EvaluationSummary(
        identity=evaluation.identity,
        num_left_out=evaluation.num_asked - len(evaluation.records),
        left_out=evaluation.left_out,
        overall=intervals(evaluation.records, by_name),
        by_hardness={
            level: intervals(records, of_parts)
            for level, records in _parts(evaluation.records, lambda one: one.hardness, _level_order).items()
        },
        by_database={
            database_id: intervals(records, of_parts)
            for database_id, records in _parts(evaluation.records, lambda one: one.database_id, str).items()
        },
        endpoint=evaluation.endpoint,
        by_source={
            source: intervals(records, of_parts)
            for source, records in _parts(evaluation.records, lambda one: one.source, str).items()
            if source
        },
    )


def use_lines(use: EndpointUse) -> list[str]:
    """Return what the answers of a model behind an endpoint took, in sentences."""
    if use.num_without_counts == use.num_answers:
        tokens = "it reports no tokens"
    else:
        tokens = f"{use.prompt_tokens:,} tokens in, {use.completion_tokens:,} out"
        if use.num_without_counts:
            tokens += f", without the unknown tokens of {use.num_without_counts} answers"
    lines = [f"{use.num_answers} answers, {use.num_kept} of them kept from before: {tokens}."]
    if use.cost is not None and use.paid is not None:
        least = "at least " if use.num_without_counts else ""
        lines.append(f"Cost by the given prices: {least}{use.paid:.4f} now, {use.cost:.4f} with the kept answers.")
    return [*lines, *use.notes]


def _pass_at(num_samples: int, k: int) -> Measure:
    return lambda record: pass_at_k(num_samples, record.num_correct, k)


def _level_order(level: str) -> tuple[int, str]:
    known = level in _LEVELS_IN_ORDER
    return (_LEVELS_IN_ORDER.index(level) if known else len(_LEVELS_IN_ORDER)), level


def _parts(
    records: Sequence[QuestionRecord], part_of: Callable[[QuestionRecord], str], order: Callable[[str], Any]
) -> Mapping[str, list[QuestionRecord]]:
    names = sorted({part_of(record) for record in records}, key=order)
    return {name: [record for record in records if part_of(record) == name] for name in names}


def _overall_table(report: EvaluationSummary) -> Table:
    identity = report.identity
    policy = identity.model + (f", adapter {identity.adapter}" if identity.adapter else "")
    table = Table(title=Text(policy, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("%, with 95 % interval", overflow="fold")
    table.add_column("all", justify="right", no_wrap=True)
    table.add_column("questions", justify="right")
    for name, interval in report.overall.items():
        if is_shown(name, identity.num_samples):
            table.add_row(Text(name), percent(interval), str(interval.num_questions))
    return table


def is_shown(name: str, num_samples: int) -> bool:
    """Return whether it is shown: powers of two and the last k of pass@k; the JSON has every k. pass@1 is the mean."""
    if not name.startswith("pass@"):
        return True
    k = int(name.removeprefix("pass@"))
    return k > 1 and (k & (k - 1) == 0 or k == num_samples)


def _parts_table(title: str, parts: Mapping[str, Mapping[str, Interval]]) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("n", justify="right")
    names = list(next(iter(parts.values())))
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for part, intervals in parts.items():
        cells = (percent(intervals[name]) for name in names)
        table.add_row(Text(part), str(intervals["greedy"].num_questions), *cells)
    return table
