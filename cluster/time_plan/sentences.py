"""Sentences on a plan for a person, before the time is spent (pure)."""

from __future__ import annotations

from floe.cluster.time_plan.durations import duration
from floe.cluster.time_plan.plan import TimePlan

LONG_S = 30 * 60.0
SHORT, SMOKE = "configs/short.yaml", "configs/smoke.yaml"


def plan_sentence(plan: TimePlan) -> str:
    parts = [f"start {duration(plan.start_s)}"]
    if plan.warm_start_s:
        parts.append(f"warm start {duration(plan.warm_start_s)}")
    if plan.num_steps:  # none in a run of the supervised stage alone
        parts.append(f"{plan.num_steps} steps of {duration(plan.step_s)}")
    if plan.evaluations_s:
        parts.append(f"evaluations {duration(plan.evaluations_s)}")
    if plan.num_interim:
        parts.append(f"{plan.num_interim} more between steps {duration(plan.num_interim * plan.interim_s)}")
    return f"about {duration(plan.whole_s)} in all: {', '.join(parts)}"


def shorter_way(plan: TimePlan) -> str:
    """Return the line that names a shorter run where this one is long, otherwise nothing."""
    if plan.whole_s <= LONG_S:
        return ""
    return (
        f"a shorter way: --config {SHORT} runs the quickstart's path with about a third of its work, "
        f"--config {SMOKE} the same path with a tiny model, in minutes"
    )


def limits_sentence(slowdown: float) -> str:
    """Return the line for a machine slower than the reference, otherwise nothing."""
    if slowdown <= 1.0:
        return ""
    return f"limits of waits are {slowdown:.1f} times the configured ones: so much slower is this machine"
