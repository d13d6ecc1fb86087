"""A run's health: the step's own limits, the guard over its series, and the roll-back that the guard asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from floe.cluster.checkpoints.best_policy import BestPolicy
from floe.cluster.checkpoints.store import Checkpoint
from floe.cluster.health.figures import figures_of
from floe.cluster.health.finding import HealthFinding
from floe.cluster.health.guard import Guard
from floe.cluster.health.state import GuardState
from floe.cluster.loop.adapter_broadcast import Exported, Published
from floe.cluster.loop.step_health import StepHealth
from floe.cluster.messages import StepReport
from floe.cluster.terminal.progress import Progress
from floe.configs.schema import RunConfig


class GuardedLearner(Protocol):
    def save_state(self, folder: Path) -> None: ...
    def load_state(self, folder: Path) -> None: ...
    def continue_at(self, num_steps_done: int, rate_factor: float) -> None: ...
    def save_adapter(self, folder: Path) -> None: ...


class Broadcaster(Protocol):
    def export(self, version: int) -> Exported: ...
    def install(self, exported: Exported) -> Published: ...
    def prove_on_longest(self, version: int) -> None: ...


class HaltedGeneration(Protocol):
    def halt(self) -> None: ...
    def begin_anew(self, version: int) -> None: ...


class RewardMeasures(Protocol):
    def metrics(self) -> object: ...


class Device(Protocol):
    def to_learner(self) -> None: ...
    def to_rollouts(self) -> None: ...


class RunHealth:
    """Health of one run, as the main loop, the recorder and the checkpoints see it."""

    def __init__(
        self,
        guard: Guard,
        step_health: StepHealth,
        best: BestPolicy,
        learner: GuardedLearner,
        progress: Progress,
    ) -> None:
        self._guard = guard
        self._step_health = step_health
        self._best = best
        self._learner = learner
        self._progress = progress
        self._found: tuple[HealthFinding, ...] = ()
        self._go_back: Callable[[int], None] = _not_ready

    def connect(
        self,
        generation: HaltedGeneration,
        device: Device,
        broadcast: Broadcaster,
        rewards: RewardMeasures,
        latest: Path,
    ) -> None:
        """Take what a roll-back works with; `latest` is the folder of the run's latest adapter."""

        def go_back(step: int) -> None:
            generation.halt()
            rewards.metrics()  # what was scored of the dropped groups is no later step's
            device.to_learner()
            self._learner.load_state(self._best.folder)
            self._learner.continue_at(step, self._guard.next_rate_factor)
            exported = broadcast.export(step)
            device.to_rollouts()
            broadcast.install(exported)
            broadcast.prove_on_longest(step)
            self._learner.save_adapter(latest)
            generation.begin_anew(step)

        self._go_back = go_back

    def begin(self, version: int, checkpoint: Path | None, evaluated: Mapping[str, Any]) -> None:
        """Begin with the best version of the checkpoint, else with the present one; keep it where it may be needed.

        `evaluated` are the numbers of an evaluation of the run's start, if there was one.
        """
        if checkpoint is None:
            self._guard.begin(version, evaluated)
        if not self._guard.may_roll_back:
            return
        if checkpoint is not None:
            if self._guard.state.best is not None and self._best.take_from(checkpoint):
                return
            self._guard.begin(version, {})  # the run has not kept one so far
        self._best.keep(self._learner)

    def see(self, step: int, values: Mapping[str, Any]) -> tuple[HealthFinding, ...]:
        """Take a step's record; return the findings, which `check` acts on. Keeps the policy when it is the best."""
        self._found = self._guard.see(figures_of(step, values))
        if self._guard.may_roll_back and self._guard.is_best(step):
            self._best.keep(self._learner)
        return self._found

    def check(self, report: StepReport) -> None:
        """Note what was found. Raises UnhealthyStep and UnhealthyRun."""
        for one in self._found:
            self._progress.finding(one)
        self._step_health.check(report)
        self._guard.check(self._found)

    @property
    def wants_roll_back(self) -> bool:
        return self._guard.due is not None

    def roll_back(self, step: int) -> None:
        """Publish the best version as version `step`, and lower the learning rate.

        The optimiser goes back too: its moments belong to the weights of their time. The schedule of the learning rate
        goes on at `step`.
        """
        best = self._guard.state.best
        assert best is not None
        self._go_back(step)
        self._guard.rolled_back(step)
        state = self._guard.state
        worth = "" if best.value is None else f" {best.value:.3f}"
        self._progress.note(
            f"roll-back {state.num_roll_backs} in place of step {step}: version {step} is version {best.version} again "
            f"(the best by {best.measure}{worth}), and the learning rate is {state.rate_factor:g} times the schedule's"
        )

    @property
    def state(self) -> GuardState:
        """The guard's state, for a checkpoint."""
        return self._guard.state

    def save_best(self, checkpoint: Path) -> None:
        """Put the version to go back to into a checkpoint that is being written."""
        if self._guard.may_roll_back:
            self._best.link_into(checkpoint)


def run_health(
    config: RunConfig, run_dir: Path, checkpoint: Checkpoint | None, learner: GuardedLearner, progress: Progress
) -> RunHealth:
    """Return the health of a run that starts, or that continues from a checkpoint whose state the learner has."""
    saved = None if checkpoint is None else checkpoint.state.health
    if checkpoint is not None and saved is not None and saved.num_roll_backs:
        learner.continue_at(checkpoint.state.step, saved.rate_factor)
    guard = Guard(config.health, has_evaluations=config.evaluation.every_steps > 0, state=saved)
    return RunHealth(guard, StepHealth(config.health, progress.note), BestPolicy(run_dir), learner, progress)


def _not_ready(step: int) -> None:
    raise AssertionError(f"the roll-back of step {step} has no actors: connect comes first")
