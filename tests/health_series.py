"""Made series of steps for tests of the health guard."""

from collections.abc import Callable, Sequence
from typing import Any

from floe.cluster.health.figures import StepFigures
from floe.cluster.health.finding import HealthFinding
from floe.cluster.health.guard import Guard
from floe.configs.sections.health_section import HealthSection

HEALTHY: dict[str, float | None] = {
    "reward_mean": 0.4, "correct_share": 0.35, "executes_share": 0.6, "zero_variance_share": 0.2,
    "truncated_share": 0.02, "entropy_estimate": 0.3, "kl": 0.01, "mean_completion_tokens": 40.0,
    "constant_reward_share": 0.0, "empty_reward_share": 0.1, "eval_greedy": None, "eval_num_questions": None,
}  # fmt: skip
Value = Callable[[int], float | None] | float | None


def series(num_steps: int, first_step: int = 1, **changes: Value) -> list[StepFigures]:
    """Return healthy steps; `changes` are values of figures, or functions of the step."""
    steps = range(first_step, first_step + num_steps)
    return [StepFigures(step=step, **HEALTHY | {k: _at(v, step) for k, v in changes.items()}) for step in steps]


def _at(value: Value, step: int) -> float | None:
    return value(step) if callable(value) else value


def found_in(steps: Sequence[StepFigures], **limits: Any) -> list[HealthFinding]:
    """Return what a guard with these settings finds in the series, from its first step on."""
    guard = Guard(HealthSection(**limits), has_evaluations=any(one.eval_greedy is not None for one in steps))
    return [one for step in steps for one in guard.see(step)]
