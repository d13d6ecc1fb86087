"""The main loop.

           requests (step k)                 groups, as each finishes
questions ------------------> rollout actors ------------------------> reward workers
                                   ^                                         | scores
       adapter k, proved on arrival |                                        v
                              object store <------ learner <---------- groups of step k
                                         one ray.put     one GRPO update

who waits          for what                       who unblocks it
reward workers     a finished group               the rollout actors
learner            every group of the step        the last reward worker
rollout actors     adapter k - 1, proved          the learner's export
(staleness is 0: all groups of a step, refill included, come from the version that the step before published)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from cluster.messages import AdapterManifest, GroupRequest, ScoredGroup, StepReport
from cluster.refill import Refill, collect_step
from cluster.reports.step_metrics import StepTimings
from cluster.scoring import Rewards, Rollouts
from configs.errors import UserError


class Learner(Protocol):
    def update(self, step: int, groups: Sequence[ScoredGroup]) -> StepReport: ...
    def export_adapter(self, version: int) -> AdapterManifest: ...
    def save_adapter(self, folder: Path) -> None: ...


class Recorder(Protocol):
    def record(
        self,
        groups: Sequence[ScoredGroup],
        num_dropped: int,
        report: StepReport,
        manifest: AdapterManifest,
        timings: StepTimings,
        refill_rounds: int,
    ) -> None: ...


class TooManyDroppedGroups(UserError):
    """More of a step's groups than allowed had no usable verdict."""


def publish(learner: Learner, rollouts: Rollouts, version: int) -> AdapterManifest:
    """Export once, install everywhere; the actors' proofs raise before one rollout is used."""
    manifest = learner.export_adapter(version)
    rollouts.install(manifest)
    return manifest


def train_grpo(
    *,
    rollouts: Rollouts,
    rewards: Rewards,
    learner: Learner,
    recorder: Recorder,
    requests_of_step: Callable[[int], Sequence[GroupRequest]],
    refill: Refill,
    num_steps: int,
    max_dropped_share: float,
    prefill: str,
) -> None:
    """Steps 1 to `num_steps`; adapter version 0 must be installed. Step k publishes version k."""
    for step in range(1, num_steps + 1):
        started = time.perf_counter()
        collected = collect_step(rollouts, rewards, requests_of_step(step), step, prefill, refill)
        usable = usable_groups(step, collected.groups, max_dropped_share)
        before_update = time.perf_counter()
        report = learner.update(step, usable)
        before_sync = time.perf_counter()
        manifest = publish(learner, rollouts, step)
        finished = time.perf_counter()
        timings = StepTimings(
            rollout_s=collected.rollout_s,
            reward_s=collected.reward_s,
            learn_s=before_sync - before_update,
            sync_s=finished - before_sync,
            step_s=finished - started,
        )
        num_dropped = len(collected.groups) - len(usable)
        recorder.record(collected.groups, num_dropped, report, manifest, timings, collected.num_rounds - 1)


def usable_groups(step: int, groups: Sequence[ScoredGroup], max_dropped_share: float) -> list[ScoredGroup]:
    """The groups in which some candidate carries a reward. Raises TooManyDroppedGroups above the allowed share."""
    usable = [group for group in groups if any(score.outcome.carries_reward for score in group.scores)]
    dropped = [group for group in groups if group not in usable]
    if not usable or len(dropped) > max_dropped_share * len(groups):
        first = dropped[0]
        raise TooManyDroppedGroups(
            f"step {step}: {len(dropped)} of {len(groups)} groups had no usable verdict, the first is question "
            f"{first.rollout.question.question_id} on database {first.rollout.question.database_id} "
            f"({first.scores[0].outcome}: {first.scores[0].message}); mend that, or raise run.max_dropped_share"
        )
    return usable
