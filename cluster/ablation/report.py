"""The figures of an ablation: a row for each arm and seed, and one for all seeds of an arm (pure)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from floe.cluster.ablation.measures import ArmMeasures, StepOutcome, mean_outcome
from floe.cluster.evaluation.before_after_table import PolicyAnswers
from floe.cluster.evaluation.intervals import Interval, mean_interval, paired_difference


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRow:
    """Accuracies and shares between 0 and 1; `seed` is None in the row of all seeds of an arm.

    Differences are paired, question by question; of all seeds they are of the means over the seeds.
    """

    arm: str
    seed: int | None
    num_steps: float
    generated_tokens: float
    greedy: Interval
    sampled: Interval
    gain: Interval  # difference of `sampled` to the start's
    to_control: Interval | None  # difference of `sampled` to that of the start at the trained policy's entropy
    to_first: Interval | None  # difference of `sampled` to the first arm's; None for that arm
    greedy_to_first: Interval | None
    reward_correlation: float | None
    wrong_reward_share: float | None
    first_steps: StepOutcome  # means over the first quarter of the steps
    last_steps: StepOutcome
    constant_rewards: dict[str, float]
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
    processors: tuple[str, ...]  # that trained the arms

    def to_json(self) -> str:
        """Return indented JSON text."""
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"

    @property
    def summary_rows(self) -> tuple[AblationRow, ...]:
        """The row of all seeds of each arm; of an arm with one seed its row."""
        with_all = {row.arm for row in self.rows if row.seed is None}
        return tuple(row for row in self.rows if row.seed is None or row.arm not in with_all)

    @property
    def resolved_difference(self) -> float | None:
        """Half of the widest interval of a difference to the first arm: a smaller one can't be told from none."""
        widths = [row.to_first.high - row.to_first.low for row in self.summary_rows if row.to_first is not None]
        return max(widths) / 2 if widths else None


def ablation_report(
    measures: Sequence[ArmMeasures], num_resamples: int, seed: int, processors: Sequence[str] = ()
) -> AblationReport:
    """Report on the questions on which every arm and seed has verdicts. Raises ValueError when there is none."""
    policies = [policy for one in measures for policy in (one.start, one.trained, one.control) if policy is not None]
    in_all = set.intersection(*(set(policy.question_ids) for policy in policies))
    common = [question_id for question_id in policies[0].question_ids if question_id in in_all]
    if not common:
        raise ValueError("no question has a verdict in every arm")
    rows = []
    for arm in dict.fromkeys(one.arm for one in measures):
        runs = [one for one in measures if one.arm == arm]
        for part, seed_of_row in [([one], one.seed) for one in runs] + ([(runs, None)] if len(runs) > 1 else []):
            seeds = {one.seed for one in part}
            first = [one for one in measures if one.arm == measures[0].arm and one.seed in seeds]
            others = first if arm != measures[0].arm and len(first) == len(part) else []
            rows.append(_row(part, others, seed_of_row, common, num_resamples, seed))
    starts = list({one.seed: one.start for one in measures}.values())
    return AblationReport(
        num_questions=len(common),
        num_samples=policies[0].num_samples,
        start_greedy=mean_interval(_greedy(starts, common), num_resamples, seed),
        start_sampled=mean_interval(_sampled(starts, common), num_resamples, seed),
        rows=tuple(rows),
        curves={f"{one.arm}, seed {one.seed}": one.steps for one in measures},
        processors=tuple(dict.fromkeys(processors)),
    )


def _row(
    part: Sequence[ArmMeasures],
    first: Sequence[ArmMeasures],
    seed_of_row: int | None,
    common: Sequence[str],
    num_resamples: int,
    seed: int,
) -> AblationRow:
    """Make the row of an arm's runs; `first` are the first arm's of the same seeds, where there are such."""
    trained = [one.trained for one in part]
    sampled, greedy = _sampled(trained, common), _greedy(trained, common)

    def difference(a: np.ndarray, others: Sequence[PolicyAnswers], of_greedy: bool = False) -> Interval | None:
        if not others:
            return None
        values = _greedy(others, common) if of_greedy else _sampled(others, common)
        return paired_difference(a, values, num_resamples, seed)

    controls = [one.control for one in part if one.control is not None]
    firsts = [one.trained for one in first]
    return AblationRow(
        arm=part[0].arm,
        seed=seed_of_row,
        num_steps=_mean([len(one.steps) for one in part]),
        generated_tokens=_mean([one.steps[-1].generated_tokens for one in part]),
        greedy=mean_interval(greedy, num_resamples, seed),
        sampled=mean_interval(sampled, num_resamples, seed),
        gain=paired_difference(sampled, _sampled([one.start for one in part], common), num_resamples, seed),
        to_control=difference(sampled, controls if len(controls) == len(part) else ()),
        to_first=difference(sampled, firsts),
        greedy_to_first=difference(greedy, firsts, of_greedy=True),
        reward_correlation=_mean_known([one.reward_correlation for one in part]),
        wrong_reward_share=_mean_known([one.wrong_reward_share for one in part]),
        first_steps=mean_outcome([step for one in part for step in _quarter(one.steps, last=False)]),
        last_steps=mean_outcome([step for one in part for step in _quarter(one.steps, last=True)]),
        constant_rewards=part[0].constant_rewards,
        score_s=_mean([one.score_s for one in part]),
        equal_group_share=_mean([one.equal_group_share for one in part]),
    )


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


def _quarter(steps: Sequence[StepOutcome], *, last: bool) -> Sequence[StepOutcome]:
    quarter = max(1, len(steps) // 4)
    return steps[-quarter:] if last else steps[:quarter]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _mean_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None
