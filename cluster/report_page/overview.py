"""The head of a run's page: state, key figures, settings, and what is missing (pure)."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from floe.cluster.evaluation.before_after_table import EvaluationReport
from floe.cluster.evaluation.results import BestInterim
from floe.cluster.report_page.step_series import StepSeries, first_and_last
from floe.cluster.run_folder.status import RunState, RunStatus
from floe.cluster.time_plan.durations import duration
from floe.configs.schema import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    label: str
    value: str
    note: str = ""


def facts(
    status: RunStatus | None,
    series: StepSeries,
    report: EvaluationReport | None,
    best: BestInterim | None,
    num_steps: int | None,
) -> list[Fact]:
    """Return a tile for each fact; those without a number are left out. `num_steps` is what was planned, if known."""
    found = [Fact(label="state", value="not known" if status is None else str(status.state), note=_place(status))]
    num_done = series.steps[-1] if series.steps else 0
    total = "" if num_steps is None else f" of {num_steps}"
    found.append(Fact(label="steps done", value=f"{num_done}{total}"))
    for label, name, factor, unit in (
        ("reward", "reward_mean", 1, ""),
        ("right candidates", "correct_share", 100, " %"),
    ):
        change = first_and_last(series.column(name))
        if change is not None:
            first, last, count = change
            digits = 2 if factor == 1 else 1
            value = f"{factor * first:.{digits}f} → {factor * last:.{digits}f}{unit}"
            note = "first and last step" if count == 1 else f"first and last {count} steps"
            found.append(Fact(label=label, value=value, note=note))
    if best is not None and math.isfinite(best.greedy):
        note = f"version {best.adapter_version}, {best.num_questions} questions of tune"
        found.append(Fact(label="best while training", value=f"{100 * best.greedy:.1f} %", note=note))
    if report is not None:
        found += _accuracy(report)
    if series.has("step_s"):
        total_s = sum(value or 0 for value in series.column("step_s"))
        mean_s = total_s / len(series.steps)
        found.append(Fact(label="time in steps", value=duration(total_s), note=f"{mean_s:.1f} s each"))
    return found


def dtypes(config: RunConfig) -> str:
    """Return the precision, or both where learner and engine differ."""
    learner, engine = config.model.dtype, config.rollout.dtype
    return learner if learner == engine else f"learner {learner}, engine {engine}"


def settings(config: RunConfig) -> list[Fact]:
    """Return the settings that tell one run from another."""
    data = config.data.source if config.data.questions is None else f"files, {config.data.questions.name}"
    if config.data.sources:
        data = f"{data}: {', '.join(one.label for one in config.data.sources)}"
    tokens = f"{config.rollout.max_new_tokens} new tokens at most"
    return [
        Fact(label="model", value=f"{config.model.path}, {dtypes(config)}"),
        *([] if (adapter := config.lora.initial_adapter) is None else [Fact(label="started from", value=adapter)]),
        Fact(label="data", value=data),
        Fact(label="group", value=f"{group_in_words(config)}, {tokens}, T {config.rollout.temperature:g}"),
        Fact(label="questions a step", value=str(config.rollout.questions_per_step)),
        *([] if config.data.sampler == "uniform" else [Fact(label="drawn by", value=f"sampler {config.data.sampler}")]),
        *([] if config.run.num_epochs is None else [Fact(label="epochs", value=str(config.run.num_epochs))]),
        Fact(label="learning rate", value=f"{config.learner.learning_rate:g}"),
        Fact(label="loss", value=f"{config.algorithm.loss}, KL coefficient {config.algorithm.kl_coefficient:g}"),
        Fact(label="judged by", value=f"{config.semantics_in_words}, {config.reward.time_limit_s:g} s"),
        Fact(label="seed", value=str(config.run.seed)),
    ]


def group_in_words(config: RunConfig) -> str:
    rollout = config.rollout
    if not rollout.has_unequal_groups:
        return f"{rollout.group_size} candidates"
    return f"{rollout.smallest_group} to {rollout.largest_group} candidates, {rollout.group_size} on average"


def missing(
    status: RunStatus | None, series: StepSeries, report: EvaluationReport | None, config: RunConfig | None
) -> list[str]:
    """Return a sentence for each part that the page lacks, with the reason."""
    found = []
    if status is None:
        found.append("The folder has no status.json that can be read, so the run's state is not known.")
    elif status.state is RunState.FINISHED and not series.steps:
        found.append("The run has finished, but its folder has no record of a step.")
    elif status.state is not RunState.FINISHED and series.steps:
        found.append(f"The run {_verb(status)}: its curves end at step {series.steps[-1]} of {status.num_steps}.")
    elif status.state is not RunState.FINISHED:
        found.append(f"The run {_verb(status)}: no step is done yet, so there are no curves.")
    if status is not None and status.error:
        found.append(f"Its last error: {status.error}")
    if status is None and not series.steps:
        found.append("No step is recorded, so there are no curves.")
    if series.num_unreadable:
        found.append(f"{series.num_unreadable} lines of metrics.jsonl can't be read and are left out.")
    if report is None:
        off = config is not None and not config.evaluation.enabled
        reason = "evaluation.enabled is false" if off else "the run has not reached its evaluation after training"
        found.append(f"There is no before/after table: {reason}.")
    return found


def _verb(status: RunStatus) -> str:
    if status.state.is_end:
        return {RunState.DIED: "died", RunState.FAILED: "failed"}.get(status.state, "was interrupted")
    return f"was going on at {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(status.updated))}"


def _place(status: RunStatus | None) -> str:
    if status is None or status.state is RunState.FINISHED:
        return ""
    return f"in step {status.step}" if status.phase == "GRPO" else f"in '{status.phase}'" if status.phase else ""


def _accuracy(report: EvaluationReport) -> list[Fact]:
    """Return the accuracy of the first and last row that were asked greedily."""
    asked = [row for row in report.rows if row.greedy is not None]
    if not asked:
        return []
    first, last = asked[0], asked[-1]
    assert first.greedy is not None and last.greedy is not None
    value = f"{100 * last.greedy.mean:.1f} %"
    if len(asked) > 1:
        value = f"{100 * first.greedy.mean:.1f} → {value}"
    names = f"{first.name} to {last.name}" if len(asked) > 1 else last.name
    return [Fact(label="greedy accuracy", value=value, note=f"{names}, {report.num_questions} questions")]
