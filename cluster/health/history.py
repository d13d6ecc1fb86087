"""The part of a run's series that detectors see: its first window, its last one, and its evaluations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean

from floe.cluster.health.figures import StepFigures

NUM_EVALUATIONS = 2  # the last ones, which have to agree


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Result of an evaluation during training: the share of right answers."""

    version: int
    greedy: float
    num_questions: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Windows of `window_steps` records each; `recent` begins anew after a roll-back."""

    window_steps: int
    first: tuple[StepFigures, ...] = ()
    recent: tuple[StepFigures, ...] = ()
    best: Accuracy | None = None  # of all evaluations
    last: tuple[Accuracy, ...] = ()  # evaluations since the best one or the last roll-back, the newest last

    def then(self, figures: StepFigures) -> History:
        """Return the history with one more step."""
        first = self.first if len(self.first) >= self.window_steps else (*self.first, figures)
        found = replace(self, first=first, recent=(*self.recent, figures)[-self.window_steps :])
        if figures.eval_greedy is None:
            return found
        return found.evaluated(figures.step, figures.eval_greedy, figures.eval_num_questions or 0.0)

    def evaluated(self, version: int, greedy: float, num_questions: float) -> History:
        """Return the history with one more evaluation."""
        accuracy = Accuracy(version=version, greedy=greedy, num_questions=num_questions)
        if self.best is None or greedy > self.best.greedy:
            return replace(self, best=accuracy, last=())
        return replace(self, last=(*self.last, accuracy)[-NUM_EVALUATIONS:])

    def after_roll_back(self) -> History:
        """Return the history without what the abandoned policy did."""
        return replace(self, recent=(), last=())

    def values(self, name: str) -> list[float] | None:
        """Return the known values in the last window; None where it is not full, or less than half of them are known.

        So one odd step of a small batch decides nothing.
        """
        return self._known(self.recent, name)

    def mean(self, name: str) -> float | None:
        return _mean(self.values(name))

    def first_mean(self, name: str) -> float | None:
        """Return the mean over the first window of the run; None while the last window still overlaps with it."""
        if not self.recent or not self.first or self.recent[0].step <= self.first[-1].step:
            return None
        return _mean(self._known(self.first, name))

    @property
    def window(self) -> str:
        """The last window in words."""
        return _steps(self.recent)

    @property
    def first_window(self) -> str:
        return _steps(self.first)

    def _known(self, steps: tuple[StepFigures, ...], name: str) -> list[float] | None:
        known = [value for one in steps if (value := getattr(one, name)) is not None]
        is_enough = len(steps) >= self.window_steps and 2 * len(known) >= self.window_steps
        return known if is_enough else None


def _mean(values: list[float] | None) -> float | None:
    return None if not values else fmean(values)


def _steps(steps: tuple[StepFigures, ...]) -> str:
    return f"steps {steps[0].step} to {steps[-1].step}" if steps else "no steps"
