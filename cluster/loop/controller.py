"""The main loop.

           requests (step k)                 groups, as each finishes
questions ------------------> rollout actors ------------------------> reward workers
                                   ^                                         | scores
      adapter k, checked on arrival |                                        v
                              object store <------ learner <---------- groups of step k
                                         one ray.put     one GRPO update

who waits          for what                            who unblocks it
reward workers     a finished group                    the rollout actors
learner            every group of the step             the last reward worker
rollout actors     adapter k - 1 - max_staleness       the learner's export
(all groups of a step, refill included, come from one version; `cluster/loop/generation.py` says when)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from floe.cluster.loop.adapter_broadcast import Exported, Published
from floe.cluster.loop.generation import Generation
from floe.cluster.loop.group_collection import Collected
from floe.cluster.loop.step_clock import StepClock, StepTimings
from floe.cluster.loop.token_budget import TokenBudget
from floe.cluster.messages import ScoredGroup, StepReport
from floe.configs.errors import UserError


class Learner(Protocol):
    def update(self, step: int, groups: Sequence[ScoredGroup]) -> StepReport: ...
    def save_adapter(self, folder: Path) -> None: ...


class Broadcaster(Protocol):
    def export(self, version: int) -> Exported: ...
    def install(self, exported: Exported) -> Published: ...
    def prove_on_longest(self, version: int) -> None: ...


class Device(Protocol):
    """Device that rollout engines and learner may share: each method lets one of them work undisturbed."""

    def to_learner(self) -> None: ...
    def to_rollouts(self) -> None: ...


class Recorder(Protocol):
    def record(
        self,
        taken: Collected,
        num_dropped: int,
        report: StepReport,
        published: Published,
        timings: StepTimings,
    ) -> None: ...


class Checkpoints(Protocol):
    def is_due(self, step: int, *, is_last: bool) -> bool: ...
    def write(self, step: int, *, is_last: bool) -> None:
        """Write a checkpoint where it is due; on return the run up to `step` is safe. The last step is always due."""


class Health(Protocol):
    @property
    def wants_roll_back(self) -> bool: ...

    def check(self, report: StepReport) -> None:
        """Raise UserError after a step that makes it pointless to continue."""

    def roll_back(self, step: int) -> None:
        """Publish the best version again as version `step`, proved like every other."""


class Stop(Protocol):
    def end_if_made(self, step: int) -> None:
        """Raise when the user has asked for the end."""


class TooManyDroppedGroups(UserError):
    """More groups of a step than allowed had no usable verdict."""


def train_grpo(
    *,
    generation: Generation,
    learner: Learner,
    device: Device,
    broadcast: Broadcaster,
    recorder: Recorder,
    health: Health,
    checkpoints: Checkpoints,
    stop: Stop,
    first_step: int = 1,
    num_steps: int,
    budget: TokenBudget,
    max_dropped_share: float,
) -> int:
    """Train from `first_step` to `num_steps`, or until the budget is spent; return the last step done.

    The version before `first_step` must be installed. Step k publishes version k; a roll-back takes a step's place.
    """
    for step in range(first_step, num_steps + 1):
        if budget.is_spent:
            return step - 1
        if health.wants_roll_back:  # in place of a step: it asks nothing and publishes the best version as `step`
            health.roll_back(step)
            checkpoints.write(step, is_last=step == num_steps)
            stop.end_if_made(step)
            continue
        clock = StepClock()
        taken = generation.take(step)
        usable = usable_groups(step, taken.groups, max_dropped_share)
        with generation.learners_turn():
            clock.lap()
            device.to_learner()
            clock.lap("handover_s")
            report = learner.update(step, usable)
            clock.lap("learn_s")
            budget.spend(taken.groups)
            is_last = step == num_steps or budget.is_spent
            exported = broadcast.export(step)
            clock.lap("sync_s")
            device.to_rollouts()
            clock.lap("handover_s")
            published = broadcast.install(exported)  # the actors' proofs raise before one rollout is used
            if checkpoints.is_due(step, is_last=is_last):
                broadcast.prove_on_longest(step)
            clock.lap("sync_s")
        generation.note_published(step)
        recorder.record(taken, len(taken.groups) - len(usable), report, published, clock.timings(taken))
        health.check(report)
        checkpoints.write(step, is_last=is_last)
        stop.end_if_made(step)
    return num_steps


def usable_groups(step: int, groups: Sequence[ScoredGroup], max_dropped_share: float) -> list[ScoredGroup]:
    """Return the groups in which some candidate carries a reward.

    Raises TooManyDroppedGroups above the allowed share.
    """
    usable = [group for group in groups if group.carries_reward]
    dropped = [group for group in groups if not group.carries_reward]
    if not usable or len(dropped) > max_dropped_share * len(groups):
        first = dropped[0]
        raise TooManyDroppedGroups(
            f"step {step}: {len(dropped)} of {len(groups)} groups had no usable verdict, the first is question "
            f"{first.rollout.question.question_id} on database {first.rollout.question.database_id} "
            f"({first.scores[0].outcome}: {first.scores[0].message}); fix that, or raise run.max_dropped_share"
        )
    return usable
