"""What a run leaves behind at every step: metrics, rollouts, the latest adapter, a line for the person who watches."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

from cluster.broadcast import Published
from cluster.controller import Learner
from cluster.generation import Taken
from cluster.messages import StepReport
from cluster.reports.metrics_log import MetricsLog
from cluster.reports.progress import Progress
from cluster.reports.reward_metrics import RewardMetrics
from cluster.reports.rollout_log import RolloutLog
from cluster.reports.step_metrics import StepTimings, step_metrics


class RewardMeasures(Protocol):
    def metrics(self) -> RewardMetrics: ...


class RolloutLosses(Protocol):
    num_replaced: int  # actors, since the pool started


class RunRecorder:
    def __init__(
        self,
        run_dir: Path,
        num_steps: int,
        learner: Learner,
        rollouts: RolloutLosses,
        rewards: RewardMeasures,
        progress: Progress,
        *,
        max_log_bytes: int,
    ) -> None:
        """`max_log_bytes` is about what rollouts.sqlite may grow to."""
        self._run_dir = run_dir
        self._losses = rollouts
        self._num_lost_before = rollouts.num_replaced
        self._rewards = rewards
        self._num_steps = num_steps
        self._learner = learner
        self._progress = progress
        self._metrics = MetricsLog(run_dir)
        self._rollouts = RolloutLog(run_dir / "rollouts.sqlite", max_log_bytes)

    def forget_after(self, step: int) -> None:
        """For a run that goes on after `step`: what an earlier process recorded of later steps is undone."""
        self._metrics.forget_after(step)
        self._rollouts.forget_after(step)
        self._progress.num_steps_done = step

    def record(
        self,
        taken: Taken,
        num_dropped: int,
        report: StepReport,
        published: Published,
        timings: StepTimings,
    ) -> None:
        record = step_metrics(
            taken.collected.groups,
            report,
            timings,
            num_dropped_groups=num_dropped,
            refill_rounds=taken.collected.num_rounds - 1,
            replaced_actors=self._losses.num_replaced - self._num_lost_before,
            published=published,
        )
        self._num_lost_before = self._losses.num_replaced
        self._metrics.write(record, self._rewards.metrics())
        self._rollouts.append(report.step, taken.collected.groups)
        self._learner.save_adapter(self._run_dir / "adapters" / "latest")
        self._progress.step(
            report.step, self._num_steps, record.reward_mean, record.correct_share, record.tokens_per_s, timings.step_s
        )

    def __enter__(self) -> Self:
        self._rewards.metrics()  # what was scored before the first step is not the first step's
        return self

    def __exit__(self, *_: object) -> None:
        self._metrics.close()
        self._rollouts.close()
