"""Watches the series of a run's steps, decides what a finding leads to, and knows the best version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from floe.cluster.health.detectors import detectors_of
from floe.cluster.health.figures import StepFigures
from floe.cluster.health.finding import HealthFinding
from floe.cluster.health.history import History
from floe.cluster.health.state import BestVersion, GuardState, Said
from floe.configs.errors import UserError
from floe.configs.sections.health_section import HealthAction, HealthSection

ACCURACY, RIGHT, REWARD, START = "interim accuracy", "mean share of right answers", "mean reward", "the run's start"


class UnhealthyRun(UserError):
    """The run's series say that going on is pointless."""


class Guard:
    """One run's guard.

    A detector that goes on finding says so again after one more window, then after two, four and so on. The best
    version is that with the highest accuracy during training. Without evaluations it is looked for at the end of every
    window, by the window's mean share of right answers, or by its mean reward under a design that runs nothing. A step
    with a finding is never the best.
    """

    def __init__(self, limits: HealthSection, *, has_evaluations: bool, state: GuardState | None = None) -> None:
        """Start anew, or from the state of a run that continues.

        A window of another length than before starts anew. A roll-back that the limits no longer ask for is not made.
        """
        self._limits = limits
        self._has_evaluations = has_evaluations
        self._detectors = detectors_of(limits)
        begun = GuardState(history=History(window_steps=limits.window_steps))
        if state is not None and state.history.window_steps != limits.window_steps:
            state = replace(state, history=begun.history, said={})
        if state is not None and state.due is not None and not self._rolls_back(state.due.detector):
            state = replace(state, due=None)
        self.state = state or begun

    @property
    def may_roll_back(self) -> bool:
        """Return whether a version to go back to has to be kept."""
        return any(self._rolls_back(name) for name in self._detectors)

    @property
    def due(self) -> HealthFinding | None:
        """The finding that a roll-back is due for."""
        return self.state.due

    def begin(self, version: int, values: Mapping[str, Any]) -> None:
        """Take the run's start, or the step that it continues from, as the version to go back to for the present.

        `values` hold the evaluation of a start that has one.
        """
        greedy = values.get("eval_greedy")
        history = self.state.history
        if isinstance(greedy, float) and greedy == greedy:
            history = history.evaluated(version, greedy, float(values.get("eval_num_questions") or 0.0))
            best = BestVersion(version=version, value=greedy, measure=ACCURACY)
        else:
            best = BestVersion(version=version, value=None, measure=START)
        self.state = replace(self.state, history=history, best=best)

    def see(self, figures: StepFigures) -> tuple[HealthFinding, ...]:
        """Take one more step's figures; return the news. `is_best` then says whether to keep its policy."""
        history = self.state.history.then(figures)
        texts = {
            name: text
            for name, detector in self._detectors.items()
            if self._limits.action_of(name) is not HealthAction.IGNORE and (text := detector.find(history)) is not None
        }
        said = dict(self.state.said)
        found = []
        for name, text in texts.items():
            if self._is_news(said.get(name), figures.step):
                said[name] = Said(step=figures.step, num_times=said[name].num_times + 1 if name in said else 1)
                action = self._action(name)
                found.append(HealthFinding(step=figures.step, detector=name, text=text, action=action))
        due = next((one for one in found if one.action is HealthAction.ROLL_BACK), None)
        best = self.state.best if texts else self._better(history, figures)
        self.state = replace(self.state, history=history, said=said, due=due, best=best)
        return tuple(found)

    def is_best(self, version: int) -> bool:
        return self.state.best is not None and self.state.best.version == version

    def check(self, findings: Sequence[HealthFinding]) -> None:
        """Raise UnhealthyRun for a finding that stops the run."""
        stops = [one for one in findings if one.action is HealthAction.STOP]
        if not stops:
            return
        why = "health.action says to stop here"
        if self._rolls_back(stops[0].detector):
            factor = self._limits.roll_back_rate_factor
            why = (
                f"the run has gone back {self.state.num_roll_backs} times already (health.max_roll_backs), each time "
                f"with {factor:g} times the learning rate"
            )
        raise UnhealthyRun(f"step {stops[0].step}: {stops[0].text}; {why}; health.action=warn goes on")

    def rolled_back(self, version: int) -> None:
        """Note that the best version was published again as `version`."""
        state = self.state
        self.state = replace(
            state,
            history=state.history.after_roll_back(),
            said={},
            num_roll_backs=state.num_roll_backs + 1,
            rate_factor=self.next_rate_factor,
            oldest_version=version,
            due=None,
        )

    @property
    def next_rate_factor(self) -> float:
        """Factor of the learning rate after one more roll-back."""
        return self.state.rate_factor * self._limits.roll_back_rate_factor

    def _rolls_back(self, name: str) -> bool:
        return self._limits.action_of(name) is HealthAction.ROLL_BACK

    def _is_news(self, said: Said | None, step: int) -> bool:
        return said is None or step - said.step >= self._limits.window_steps * 2 ** (said.num_times - 1)

    def _action(self, name: str) -> HealthAction:
        has_none_left = self.state.num_roll_backs >= self._limits.max_roll_backs
        return HealthAction.STOP if has_none_left and self._rolls_back(name) else self._limits.action_of(name)

    def _better(self, history: History, figures: StepFigures) -> BestVersion | None:
        best = self.state.best
        measure, value = self._measured(history, figures)
        if value is None or (best is not None and best.value is not None and best.value >= value):
            return best
        return BestVersion(version=figures.step, value=value, measure=measure)

    def _measured(self, history: History, figures: StepFigures) -> tuple[str, float | None]:
        if self._has_evaluations:
            return ACCURACY, figures.eval_greedy
        if figures.step % self._limits.window_steps:
            return RIGHT, None
        right = history.mean("correct_share")
        return (RIGHT, right) if right is not None else (REWARD, history.mean("reward_mean"))
