"""The figures of one step that the guard looks at, under their names in `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

LARGEST, SMALLEST = 1e100, 1e-100  # sums, slopes and ratios of numbers beyond could overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFigures:
    """One step; None stands for a figure that the record lacks, or that was not finite or absurdly large."""

    step: int
    reward_mean: float | None = None
    correct_share: float | None = None
    executes_share: float | None = None
    zero_variance_share: float | None = None
    truncated_share: float | None = None
    entropy_estimate: float | None = None  # nats per token
    kl: float | None = None  # k3, nats per token
    mean_completion_tokens: float | None = None
    constant_reward_share: float | None = None  # of the reward that was earned
    empty_reward_share: float | None = None
    eval_greedy: float | None = None  # share right of the held-back sample, after the step
    eval_num_questions: float | None = None


NAMES = tuple(one.name for one in fields(StepFigures) if one.name != "step")


def figures_of(step: int, values: Mapping[str, Any]) -> StepFigures:
    """Return a step's figures from its record, in which anything may be missing."""
    return StepFigures(step=step, **{name: _number(values.get(name)) for name in NAMES})


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:  # as of a NaN
        return None
    return float(value) if abs(value) >= SMALLEST else 0.0
