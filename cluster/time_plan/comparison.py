"""Compares a run's planned seconds with those that it took (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from floe.cluster.time_plan.forecast import AFTER, BEFORE, PHASES, STEPS, WARM_START, Mark
from floe.cluster.time_plan.plan import TimePlan

START = "start of the actors"
THIRD_STEP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTimes:
    phase: str
    planned_s: float
    seen_s: float

    @property
    def ratio(self) -> float:
        """Planned over seen seconds."""
        return self.planned_s / self.seen_s if self.seen_s > 0 else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Comparison of a plan with its run. Ratios are of the whole run, with the set-up before the plan."""

    phases: tuple[PhaseTimes, ...]
    whole_s: float
    ratio_at_start: float
    ratios_by_step: dict[int, float]

    @property
    def worst_from_third_step(self) -> float | None:
        """The ratio that is furthest from 1; None for a run that ended before."""
        late = [ratio for step, ratio in self.ratios_by_step.items() if step >= THIRD_STEP]
        return max(late, key=lambda ratio: max(ratio, 1 / ratio) if ratio > 0 else float("inf"), default=None)


def compare(plan: TimePlan, marks: Sequence[Mark]) -> Comparison:
    """Compare. Raises ValueError for a run without an end."""
    if not marks or marks[-1].phase:
        raise ValueError("the run has not ended")
    seen: dict[str, float] = defaultdict(float)
    for mark, after in pairwise(marks):
        seen[mark.phase] += after.at_s - mark.at_s
    planned = {
        WARM_START: plan.warm_start_s,
        START: plan.start_s,
        BEFORE: plan.before_s,
        STEPS: plan.steps_s,
        AFTER: plan.after_s,
    }
    whole_s = marks[-1].at_s
    expected = [(mark, (mark.at_s + mark.left_s) / whole_s) for mark in marks if mark.left_s is not None]
    return Comparison(
        phases=tuple(
            PhaseTimes(phase=name, planned_s=planned[name], seen_s=seen[name])
            for name in PHASES
            if name in planned and (planned[name] or seen[name])
        ),
        whole_s=whole_s,
        ratio_at_start=expected[0][1] if expected else float("nan"),
        ratios_by_step={mark.step: ratio for mark, ratio in expected if mark.phase == STEPS and mark.step},
    )
