"""The before/after table: accuracy per policy, and paired differences to the warm start."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from floe.cluster.evaluation.intervals import Interval, mean_interval, paired_difference, pass_at_k
from floe.cluster.evaluation.plain_words import few_questions, no_change
from floe.cluster.evaluation.policy_rows import Difference, PolicyRow, SourceRows
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

WARM_START, INITIAL_ADAPTER = "warm start", "initial adapter"
MAX_SHOWN_LEFT_OUT = 3  # the JSON has them all


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyAnswers:
    """Results of one policy on each question that had usable verdicts; the tuples run parallel to `question_ids`.

    The greedy fields are None for a policy that was only sampled.
    """

    name: str
    temperature: float  # of the samples
    question_ids: tuple[str, ...]
    greedy_correct: tuple[bool, ...] | None
    greedy_executes: tuple[bool, ...] | None
    num_samples: int  # per question
    sample_num_correct: tuple[int, ...]
    sample_num_executes: tuple[int, ...]
    entropy: float | None = None  # nats per sampled token
    without_verdict: tuple[str, ...] = ()  # id and reason of each question that was asked and is not here

    def __post_init__(self) -> None:
        parallel = (self.greedy_correct, self.greedy_executes, self.sample_num_correct, self.sample_num_executes)
        if any(field is not None and len(field) != len(self.question_ids) for field in parallel):
            raise ValueError(f"the answers of '{self.name}' do not have one entry per question")
        if len(set(self.question_ids)) != len(self.question_ids):
            raise ValueError(f"the answers of '{self.name}' repeat a question")

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        draft = path.with_name(f"{path.name}.draft")
        draft.write_text(json.dumps(asdict(self)), encoding="utf-8")
        os.replace(draft, path)

    @classmethod
    def read(cls, path: Path) -> PolicyAnswers:
        """Read what `write` wrote."""
        return POLICIES.validate_json(path.read_bytes())


POLICIES = TypeAdapter(PolicyAnswers)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """Everything that the table shows, as shares between 0 and 1."""

    num_questions: int
    num_left_out: int  # questions that lacked a usable verdict for at least one policy
    left_out: tuple[str, ...]  # policy, question and reason of each such case
    num_samples: int
    rows: tuple[PolicyRow, ...]
    differences: tuple[Difference, ...]
    by_source: tuple[SourceRows, ...] = ()  # of a mixture; empty without one

    def to_json(self) -> str:
        """Return the report as indented JSON text; without a mixture it says nothing of sources."""
        fields = asdict(self)
        if not self.by_source:
            del fields["by_source"]
        return json.dumps(fields, indent=2, allow_nan=False) + "\n"

    def render(self, console: Console) -> None:
        """Print the report; it fits 100 columns."""
        console.print(_accuracy_table(self))
        if self.differences:
            console.print(_difference_table(self))
        if self.by_source:
            console.print(_source_table(self))
        if self.num_left_out:
            console.print(f"{self.num_left_out} questions left out: not every policy has a usable verdict on them.")
            for line in self.left_out[:MAX_SHOWN_LEFT_OUT]:
                console.print(Text(f"  {line}"), soft_wrap=True)
        for line in self.in_plain_words():
            console.print(Text(line), soft_wrap=True)

    def in_plain_words(self) -> list[str]:
        """Return what can't be told from the figures, a line each."""
        last = self.differences[-1] if self.differences else None
        changes = () if last is None else (last.greedy, last.sampled, last.pass_at_n)
        return [line for line in (few_questions(self.num_questions), no_change(changes)) if line]


def start_row(config: RunConfig) -> str:
    """Return the name of the row of the policy before GRPO's first step."""
    is_given = config.lora.initial_adapter is not None and not config.warm_start.enabled
    return INITIAL_ADAPTER if is_given else WARM_START


def evaluation_report(
    policies: Sequence[PolicyAnswers],
    *,
    num_resamples: int,
    seed: int,
    num_asked: int | None = None,
    reference: str = WARM_START,
    sources: Mapping[str, str] | None = None,
) -> EvaluationReport:
    """Make rows in the order given over the questions common to all, and differences of rows after `reference` to it.

    `num_asked` counts the questions put to the policies, with those without any usable verdict (None: every question
    that some policy answered). `sources` are the sources of a mixture by question id: each has rows of its own.

    Raises UserError when no question is common to all, ValueError when the policies drew different numbers of samples.
    """
    if len({policy.num_samples for policy in policies}) != 1:
        raise ValueError("a table needs policies with the same number of samples per question")
    answered = [set(policy.question_ids) for policy in policies]
    in_all = set.intersection(*answered)
    common = [question_id for question_id in policies[0].question_ids if question_id in in_all]
    if not common:
        raise UserError("No question has a usable verdict for every policy: see why in the run's scoring messages.")
    compared = partial(_compared, policies, reference=reference, num_resamples=num_resamples, seed=seed)
    rows, differences = compared(common)
    by_source: dict[str, list[str]] = {}
    for question_id in common:
        if source := (sources or {}).get(question_id):
            by_source.setdefault(source, []).append(question_id)
    parts = [(source, len(asked), *compared(asked)) for source, asked in sorted(by_source.items())]
    return EvaluationReport(
        num_questions=len(common),
        num_left_out=(len(set.union(*answered)) if num_asked is None else num_asked) - len(common),
        left_out=tuple(f"{policy.name}: {line}" for policy in policies for line in policy.without_verdict),
        num_samples=policies[0].num_samples,
        rows=rows,
        differences=differences,
        by_source=tuple(
            SourceRows(source=name, num_questions=count, rows=own_rows, differences=own_differences)
            for name, count, own_rows, own_differences in parts
        ),
    )


def _compared(
    policies: Sequence[PolicyAnswers], asked: Sequence[str], *, reference: str, num_resamples: int, seed: int
) -> tuple[tuple[PolicyRow, ...], tuple[Difference, ...]]:
    """Return rows over the questions `asked`, and differences of the rows after `reference` to it."""
    measures = [_measures(policy, asked) for policy in policies]
    names = [policy.name for policy in policies]
    start = names.index(reference) if reference in names else len(names)
    rows = tuple(_row(p, m, num_resamples, seed) for p, m in zip(policies, measures, strict=True))
    return rows, tuple(
        _difference(names[i], measures[i], reference, measures[start], num_resamples, seed)
        for i in range(start + 1, len(names))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measures:
    """One number per common question."""

    greedy: np.ndarray | None
    sampled: np.ndarray
    pass_at_n: np.ndarray
    greedy_executes: np.ndarray | None
    sampled_executes: np.ndarray


def _measures(policy: PolicyAnswers, common: Sequence[str]) -> _Measures:
    position = {question_id: i for i, question_id in enumerate(policy.question_ids)}
    kept = [position[question_id] for question_id in common]
    num_samples, num_correct = policy.num_samples, np.array(policy.sample_num_correct)[kept]
    return _Measures(
        greedy=None if policy.greedy_correct is None else np.array(policy.greedy_correct, float)[kept],
        sampled=num_correct / num_samples,
        pass_at_n=np.array([pass_at_k(num_samples, int(correct), num_samples) for correct in num_correct]),
        greedy_executes=None if policy.greedy_executes is None else np.array(policy.greedy_executes, float)[kept],
        sampled_executes=np.array(policy.sample_num_executes)[kept] / num_samples,
    )


def _row(policy: PolicyAnswers, measures: _Measures, num_resamples: int, seed: int) -> PolicyRow:
    def interval(values: np.ndarray) -> Interval:
        return mean_interval(values, num_resamples, seed)

    return PolicyRow(
        name=policy.name,
        temperature=policy.temperature,
        entropy=policy.entropy,
        greedy=None if measures.greedy is None else interval(measures.greedy),
        sampled=interval(measures.sampled),
        pass_at_n=interval(measures.pass_at_n),
        greedy_executes=None if measures.greedy_executes is None else interval(measures.greedy_executes),
        sampled_executes=interval(measures.sampled_executes),
    )


def _difference(name: str, a: _Measures, to: str, b: _Measures, num_resamples: int, seed: int) -> Difference:
    def interval(ours: np.ndarray, theirs: np.ndarray) -> Interval:
        return paired_difference(ours, theirs, num_resamples, seed)

    return Difference(
        name=name,
        to=to,
        greedy=None if a.greedy is None or b.greedy is None else interval(a.greedy, b.greedy),
        sampled=interval(a.sampled, b.sampled),
        pass_at_n=interval(a.pass_at_n, b.pass_at_n),
    )


def _accuracy_table(report: EvaluationReport) -> Table:
    title = f"Execution accuracy in % with 95 % interval, {report.num_questions} questions"
    table = _table(title, ["greedy", f"mean of {report.num_samples}", f"pass@{report.num_samples}", "executes"])
    for row in report.rows:
        cells = (percent(cell) for cell in (row.greedy, row.sampled, row.pass_at_n))
        # Its interval is in the JSON only: four intervals don't fit 100 columns.
        executes = Text(f"{100 * row.sampled_executes.mean:.1f}")
        table.add_row(Text(row.name), f"{row.temperature:.2f}", *cells, executes)
    return table


def _difference_table(report: EvaluationReport) -> Table:
    title = f"Paired difference to the {report.differences[0].to} in points with 95 % interval"
    table = _table(title, ["greedy", f"mean of {report.num_samples}", f"pass@{report.num_samples}"])
    temperatures = {row.name: row.temperature for row in report.rows}
    for line in report.differences:
        cells = (percent(cell, sign="+") for cell in (line.greedy, line.sampled, line.pass_at_n))
        table.add_row(Text(line.name), f"{temperatures[line.name]:.2f}", *cells)
    return table


def _source_table(report: EvaluationReport) -> Table:
    """Make a table in which each source has a row for each policy, and one with signs for each difference."""
    title = Text("By source: accuracy in %, and with signs the paired differences in points", style="bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("source (questions)", overflow="fold")
    table.add_column("policy", overflow="fold")
    for measure in ("greedy", f"mean of {report.num_samples}", f"pass@{report.num_samples}"):
        table.add_column(measure, justify="right", no_wrap=True)
    for part in report.by_source:
        lines = [(row.name, row.greedy, row.sampled, row.pass_at_n, "-") for row in part.rows]
        lines += [(f"{one.name} to {one.to}", one.greedy, one.sampled, one.pass_at_n, "+") for one in part.differences]
        for i, (policy, *figures, sign) in enumerate(lines):
            name = "" if i else f"{part.source} ({part.num_questions})"
            table.add_row(Text(name), Text(policy), *(percent(figure, sign) for figure in figures))
        table.add_section()
    return table


def _table(title: str, measures: Sequence[str]) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True)
    table.pad_edge = False
    table.add_column("policy", overflow="fold")
    table.add_column("temp.", justify="right", no_wrap=True)
    for measure in measures:
        table.add_column(measure, justify="right", no_wrap=True)
    return table


def percent(interval: Interval | None, sign: str = "-") -> Text:
    """Return mean and interval in percent with one digit; a dash for None. With "+" as `sign` every number has one."""
    if interval is None:
        return Text("-")
    mean, low, high = (
        f"{round(100 * value, 1) + 0.0:{sign}.1f}" for value in (interval.mean, interval.low, interval.high)
    )
    return Text(f"{mean} [{low}, {high}]")
