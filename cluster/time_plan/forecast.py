"""The seconds that a run still takes: its plan, corrected by what was seen of it (pure)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import fmean, median

from floe.cluster.time_plan.plan import TimePlan

WARM_START, BEFORE, STEPS, AFTER = "warm start", "evaluation before", "GRPO", "evaluation after"
PHASES = ("set-up", WARM_START, "start of the actors", BEFORE, STEPS, AFTER)
NUM_RECENT_STEPS = 5
MIN_SHARE = 0.05  # share of an evaluation's answers, from which its whole is estimated


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment of a run and the forecast at that time: a phase or a step has ended, without a phase the run."""

    at_s: float  # since the run's process began
    phase: str
    step: int
    left_s: float | None


class Forecast:
    """Forecasts the rest of a run from events, each with the seconds since the run's process began."""

    def __init__(self, plan: TimePlan) -> None:
        self.plan = plan
        self._phase = PHASES[0]
        self._phase_start_s = self._since_s = 0.0  # of the phase; of the latest batch, answers or step
        self._num_steps_left = plan.num_steps
        self._num_interim_left = plan.num_interim
        self._steps_s: deque[float] = deque(maxlen=NUM_RECENT_STEPS)
        self._rollouts_s: deque[float] = deque(maxlen=NUM_RECENT_STEPS)
        self._interims_s: list[float] = []
        self._batches_s: list[float] = []
        self._num_batches = 0
        self._max_batches = plan.max_batches
        self._answered = self._asked = self._asked_before = 0  # of the evaluation at work, and of the phase's earlier
        self._learner_factor = self._engine_factor = 1.0  # seen over planned

    def phase(self, name: str, now_s: float) -> None:
        self._end_phase(now_s)
        self._phase, self._phase_start_s, self._since_s = name, now_s, now_s
        self._answered = self._asked = self._asked_before = 0

    def batch(self, number: int, max_batches: int, took_s: float, now_s: float) -> None:
        """Note that batch `number` of the warm start, from 1, has ended."""
        self._num_batches, self._max_batches, self._since_s = number, max_batches, now_s
        self._batches_s.append(took_s)
        if self.plan.batch_s > 0:
            self._learner_factor = median(self._batches_s[-20:]) / self.plan.batch_s

    def answers(self, num_answered: int, num_asked: int, now_s: float) -> None:
        """Note the answers so far of an evaluation, and of all; one that begins again at few is the phase's next."""
        if num_answered < self._answered:
            self._asked_before += self._asked
        self._answered, self._asked, self._since_s = num_answered, num_asked, now_s

    def step(self, step_s: float, rollout_s: float, num_left: int, now_s: float) -> None:
        self._steps_s.append(step_s)
        self._rollouts_s.append(rollout_s)
        self._num_steps_left, self._since_s = num_left, now_s
        if self.plan.generation_s > 0:
            self._engine_factor = fmean(self._rollouts_s) / self.plan.generation_s

    def interim(self, took_s: float, now_s: float) -> None:
        """Note that an evaluation between two steps has ended."""
        self._interims_s.append(took_s)
        self._num_interim_left, self._since_s = max(0, self._num_interim_left - 1), now_s

    def left_s(self, now_s: float) -> float:
        """Return seconds until the run's end."""
        place = PHASES.index(self._phase) if self._phase in PHASES else 0
        later = sum(self._whole_s(name) for name in PHASES[place + 1 :])
        return self.phase_left_s(now_s) + later

    def phase_left_s(self, now_s: float) -> float:
        """Return seconds until the present phase's end, never below 0."""
        return max(0.0, self._phase_rest_s() - (now_s - self._since_s))

    def _phase_rest_s(self) -> float:
        """Return seconds of the present phase, counted from what came last."""
        if self._phase == WARM_START and self._num_batches:
            return self._batches_rest_s()
        if self._phase == STEPS:
            return self._steps_rest_s()
        if self._phase in (BEFORE, AFTER):
            planned = self.plan.num_before if self._phase == BEFORE else self.plan.num_after
            num_there = self._asked_before + self._answered
            num_all = max(planned, self._asked_before + self._asked)
            if num_there > MIN_SHARE * num_all:
                return (self._since_s - self._phase_start_s) / num_there * (num_all - num_there)
        return self._whole_s(self._phase)

    def _batches_rest_s(self) -> float:
        """Return seconds to the expected end; beyond that to the next evaluation, at the latest to the last batch."""
        plan, factor = self.plan, self._learner_factor
        evaluations = max(0.0, plan.warm_start_s - plan.num_batches * plan.batch_s) * factor
        expected = max(plan.num_batches, self._num_batches + 1)
        share = (expected - self._num_batches) / max(1, expected)
        return (
            max(0, min(expected, self._max_batches) - self._num_batches) * plan.batch_s * factor + evaluations * share
        )

    def _steps_rest_s(self) -> float:
        interim_s = fmean(self._interims_s) if self._interims_s else self.plan.interim_s * self._engine_factor
        return self._num_steps_left * self._step_s() + self._num_interim_left * interim_s

    def _step_s(self) -> float:
        """Return the mean of the last steps; the first, which warms up, counts only while there is no other."""
        if self._steps_s:
            steps = list(self._steps_s)
            return fmean(steps[1:] if 1 < len(steps) < NUM_RECENT_STEPS else steps)
        plan = self.plan
        return plan.generation_s * self._engine_factor + plan.learning_s * self._learner_factor + plan.rest_s

    def _whole_s(self, phase: str) -> float:
        """Return all seconds of a phase that has not begun, or of which nothing is known yet."""
        plan = self.plan
        match phase:
            case "warm start":
                return plan.warm_start_s
            case "start of the actors":
                return plan.start_s
            case "evaluation before":
                return plan.before_s * self._engine_factor
            case "GRPO":
                return self._steps_rest_s()
            case "evaluation after":
                return plan.after_s * self._engine_factor
        return 0.0

    def _end_phase(self, now_s: float) -> None:
        """Learn from a phase that ends how its planned seconds compare with the seen ones."""
        if self._phase == BEFORE and self.plan.before_s > 0 and self._answered:
            self._engine_factor = (now_s - self._phase_start_s) / self.plan.before_s
