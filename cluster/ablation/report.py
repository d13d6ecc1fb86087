"""The table of an ablation: a row for each arm and seed, and one for all seeds of an arm (pure)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from floe.cluster.ablation.measures import ArmMeasures, StepOutcome
from floe.cluster.evaluation.before_after_table import PolicyAnswers, percent
from floe.cluster.evaluation.intervals import Interval, mean_interval, paired_difference

ALL_SEEDS = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRow:
    """Accuracies and shares between 0 and 1; `seed` is None in the row of all seeds of an arm."""

    arm: str
    seed: int | None
    num_steps: float
    generated_tokens: float
    greedy: Interval
    sampled: Interval
    gain: Interval  # difference of `sampled` to the start's, question by question
    to_first: Interval | None  # difference of `sampled` to the first arm's; None for that arm
    reward_correlation: float | None
    wrong_reward_share: float | None
    first_tokens: float  # mean length of completions in the first quarter of the steps
    last_tokens: float
    score_s: float
    equal_group_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationReport:
    num_questions: int
    num_samples: int
    start_greedy: Interval
    start_sampled: Interval
    rows: tuple[AblationRow, ...]
    curves: dict[str, tuple[StepOutcome, ...]]  # by arm and seed

    def to_json(self) -> str:
        """Return indented JSON text."""
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"

    def render(self, console: Console) -> None:
        console.print(_table(self))


def ablation_report(measures: Sequence[ArmMeasures], num_resamples: int, seed: int) -> AblationReport:
    """Report on the questions on which every arm and seed has verdicts. Raises ValueError when there is none."""
    policies = [policy for one in measures for policy in (one.start, one.trained)]
    in_all = set.intersection(*(set(policy.question_ids) for policy in policies))
    common = [question_id for question_id in policies[0].question_ids if question_id in in_all]
    if not common:
        raise ValueError("no question has a verdict in every arm")

    def interval(values: np.ndarray) -> Interval:
        return mean_interval(values, num_resamples, seed)

    first_name = measures[0].arm
    rows = []
    for arm in dict.fromkeys(one.arm for one in measures):
        runs = [one for one in measures if one.arm == arm]
        parts = [([one], one.seed) for one in runs] + ([(runs, None)] if len(runs) > 1 else [])
        for part, seed_of_row in parts:
            seeds = {one.seed for one in part}
            first = [one for one in measures if one.arm == first_name and one.seed in seeds]
            sampled, start = (_sampled(which, common) for which in (_trained(part), _starts(part)))
            to_first = None
            if arm != first_name and len(first) == len(part):
                to_first = paired_difference(sampled, _sampled(_trained(first), common), num_resamples, seed)
            rows.append(
                AblationRow(
                    arm=arm,
                    seed=seed_of_row,
                    num_steps=_mean([len(one.steps) for one in part]),
                    generated_tokens=_mean([one.steps[-1].generated_tokens for one in part]),
                    greedy=interval(_greedy(_trained(part), common)),
                    sampled=interval(sampled),
                    gain=paired_difference(sampled, start, num_resamples, seed),
                    to_first=to_first,
                    reward_correlation=_mean_known([one.reward_correlation for one in part]),
                    wrong_reward_share=_mean_known([one.wrong_reward_share for one in part]),
                    first_tokens=_mean([_length(one.steps, last=False) for one in part]),
                    last_tokens=_mean([_length(one.steps, last=True) for one in part]),
                    score_s=_mean([one.score_s for one in part]),
                    equal_group_share=_mean([one.equal_group_share for one in part]),
                )
            )
    starts = list({one.seed: one.start for one in measures}.values())
    return AblationReport(
        num_questions=len(common),
        num_samples=policies[0].num_samples,
        start_greedy=interval(_greedy(starts, common)),
        start_sampled=interval(_sampled(starts, common)),
        rows=tuple(rows),
        curves={f"{one.arm}, seed {one.seed}": one.steps for one in measures},
    )


def _trained(part: Sequence[ArmMeasures]) -> list[PolicyAnswers]:
    return [one.trained for one in part]


def _starts(part: Sequence[ArmMeasures]) -> list[PolicyAnswers]:
    return [one.start for one in part]


def _sampled(policies: Sequence[PolicyAnswers], common: Sequence[str]) -> np.ndarray:
    """Return [questions] shares of right samples, the mean over the policies."""
    shares: np.ndarray = np.mean(
        [_picked(one, one.sample_num_correct, common) / one.num_samples for one in policies], axis=0
    )
    return shares


def _greedy(policies: Sequence[PolicyAnswers], common: Sequence[str]) -> np.ndarray:
    shares: np.ndarray = np.mean([_picked(one, one.greedy_correct or (), common) for one in policies], axis=0)
    return shares


def _picked(policy: PolicyAnswers, values: Sequence[float], common: Sequence[str]) -> np.ndarray:
    position = {question_id: i for i, question_id in enumerate(policy.question_ids)}
    return np.array([values[position[question_id]] for question_id in common], float)


def _length(steps: Sequence[StepOutcome], *, last: bool) -> float:
    quarter = max(1, len(steps) // 4)
    return _mean([one.mean_tokens for one in (steps[-quarter:] if last else steps[:quarter])])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _mean_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None


def _table(report: AblationReport) -> Table:
    start = f"greedy {percent(report.start_greedy)}, mean of {report.num_samples} {percent(report.start_sampled)}"
    title = f"Execution accuracy in % with 95 % interval, {report.num_questions} held-back questions; start: {start}"
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True)
    table.pad_edge = False
    table.add_column("arm", no_wrap=True)
    columns = ("seed", "steps", "tokens", "greedy", f"mean of {report.num_samples}", "to the start", "to the first arm")
    for name in (*columns, "r", "wrong %", "equal %", "length", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        table.add_row(*_cells(row))
    table.caption = (
        "to the start, to the first arm: paired differences of the sampled accuracy, in points. r: correlation of "
        "reward and correctness. wrong %: of the reward above 0, what wrong candidates earned. equal %: groups with "
        "equal rewards. length: mean tokens of a completion, first and last quarter of the steps. ms: of a score."
    )
    table.caption_justify = "left"
    return table


def _cells(row: AblationRow) -> list[Text]:
    seed = ALL_SEEDS if row.seed is None else str(row.seed)
    shown: list[str | Text] = [
        row.arm,
        seed,
        f"{row.num_steps:g}",
        f"{row.generated_tokens:,.0f}",
        percent(row.greedy),
        percent(row.sampled),
        percent(row.gain, sign="+"),
        percent(row.to_first, sign="+"),
        "-" if row.reward_correlation is None else f"{row.reward_correlation:.2f}",
        "-" if row.wrong_reward_share is None else f"{100 * row.wrong_reward_share:.1f}",
        f"{100 * row.equal_group_share:.0f}",
        f"{row.first_tokens:.1f} > {row.last_tokens:.1f}",
        f"{1000 * row.score_s:.2f}",
    ]
    return [one if isinstance(one, Text) else Text(one) for one in shown]
