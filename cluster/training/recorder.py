"""Records every step of a run: metrics, rollouts, the latest adapter, and a line for the person who watches."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from floe.cluster.evaluation.during_training import InterimEvaluation
from floe.cluster.health.finding import HealthFinding
from floe.cluster.loop.adapter_broadcast import Published
from floe.cluster.loop.controller import Learner
from floe.cluster.loop.group_collection import Collected
from floe.cluster.loop.step_clock import StepTimings
from floe.cluster.messages import StepReport
from floe.cluster.run_folder.file_names import BEST_ADAPTER, BEST_RESULT, LATEST_ADAPTER, ROLLOUTS_FILE
from floe.cluster.terminal.progress import Progress
from floe.cluster.tracking.gpu_step import GpuStep, with_allocator
from floe.cluster.tracking.metrics_log import MetricsLog, forget_metrics_after
from floe.cluster.tracking.record_sink import RecordSink, RunEnd
from floe.cluster.tracking.reward_metrics import RewardMetrics, equal_terms_of, outcomes_of, terms_of
from floe.cluster.tracking.rollout_log import RolloutLog
from floe.cluster.tracking.running_pass_rates import RunningPassRates
from floe.cluster.tracking.step_metrics import InterimResult, RoleMemory, StepMetrics, step_metrics
from floe.configs.files.foreign_files import parsed_json
from floe.configs.files.whole_files import write_whole


class RewardMeasures(Protocol):
    def metrics(self) -> RewardMetrics: ...


class WatchedHealth(Protocol):
    def see(self, step: int, values: Mapping[str, Any]) -> Sequence[HealthFinding]: ...
    def begin(self, version: int, checkpoint: Path | None, evaluated: Mapping[str, Any]) -> None: ...


class RolloutLosses(Protocol):
    num_replaced: int  # lost actors, counted since the pool started


def forget_after(run_dir: Path, step: int, metrics_position: int) -> str:
    """Remove from a run's records what it wrote after `step`: it continues there, and would write it again.

    Returns a sentence when earlier records are lost, else nothing.
    """
    lost = forget_metrics_after(run_dir, step, metrics_position)
    with RolloutLog(run_dir / ROLLOUTS_FILE) as rollouts:
        rollouts.forget_after(step)
    return lost


def best_accuracy(run_dir: Path, step: int) -> float:
    """Return the greedy accuracy of the best adapter so far, minus infinity when there is none up to `step`."""
    path = run_dir / BEST_RESULT
    if not path.is_file():
        return -math.inf
    best = parsed_json(path.read_text(encoding="utf-8"))
    return best["greedy"] if best["adapter_version"] <= step else -math.inf


def _best_result(result: InterimResult) -> dict[str, Any]:
    """Return the fields of `best.json`; it has none by source without a mixture."""
    fields = asdict(result)
    if not result.by_source:
        del fields["by_source"]
    return fields


def _numbers_of(result: InterimResult | None) -> dict[str, Any]:
    """Return what a record has of an evaluation, under the record's names."""
    return {} if result is None else {"eval_greedy": result.greedy, "eval_num_questions": result.num_questions}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Parts of a run whose own figures go into each step's record."""

    rollouts: RolloutLosses
    rewards: RewardMeasures
    memory: Callable[[], RoleMemory | None] = lambda: None
    gpus: Callable[[], GpuStep | None] = lambda: None


class RunRecorder:
    def __init__(
        self,
        run_dir: Path,
        *,
        num_steps: int,
        learner: Learner,
        measured: Measured,
        interim: InterimEvaluation,
        progress: Progress,
        max_log_bytes: int,
        health: WatchedHealth | None = None,
        sinks: Sequence[RecordSink] = (),
        sources: Sequence[str] = (),
        by_terms: bool = False,
    ) -> None:
        """Open the records; `sinks` get each record, and are closed. `max_log_bytes` roughly limits rollouts.sqlite.

        `sources` are the names of a mixture's sources: every record has the numbers of each. `by_terms` says that
        advantages are taken from each term of the reward (`algorithm.advantage_terms=gdpo`).
        """
        self._run_dir = run_dir
        self._measured = measured
        self._num_lost_before = measured.rollouts.num_replaced
        self._num_steps = num_steps
        self._learner = learner
        self._interim = interim
        self._health = health
        self._progress = progress
        self._metrics = MetricsLog(run_dir, sinks)
        self._sources = sources
        self._by_terms = by_terms
        self._rollouts = RolloutLog(run_dir / ROLLOUTS_FILE, max_log_bytes)
        self._pass_rates = RunningPassRates(run_dir, self._rollouts.pass_rates())

    def record(
        self,
        taken: Collected,
        num_dropped: int,
        report: StepReport,
        published: Published,
        timings: StepTimings,
    ) -> None:
        self._metrics.check_in_place()
        record = step_metrics(
            taken.groups,
            report,
            timings,
            num_dropped_groups=num_dropped,
            refill_rounds=taken.num_rounds - 1,
            replaced_actors=self._measured.rollouts.num_replaced - self._num_lost_before,
            ready_steps=taken.ready_steps,
            published=published,
            sources=self._sources,
            by_terms=self._by_terms,
            draw=taken.draw,
        )
        self._num_lost_before = self._measured.rollouts.num_replaced
        # The pool may have scored the next step's groups already: outcomes are of this step's own.
        groups = taken.groups
        rewards = replace(
            self._measured.rewards.metrics(),
            outcomes=outcomes_of(groups),
            terms=terms_of(groups),
            equal_terms=equal_terms_of(groups),
        )
        evaluated = self._evaluate(report.step)
        gpus = with_allocator(self._measured.gpus(), report)
        findings = self._findings(record, evaluated)
        self._metrics.write(record, rewards, evaluated, self._measured.memory(), gpus, findings)
        self._rollouts.append(report.step, taken.groups)
        self._pass_rates.add(taken.groups)
        self._learner.save_adapter(self._run_dir / LATEST_ADAPTER)
        self._progress.step(record, self._num_steps, gpus)

    def _evaluate(self, step: int) -> InterimResult | None:
        """Evaluate; keep the best adapter, and leave what was scored for it out of the next step's numbers."""
        result = self._interim.after(step)
        if result is None:
            return None
        self._measured.rewards.metrics()
        if result.is_best:
            self._learner.save_adapter(self._run_dir / BEST_ADAPTER)
            write_whole(self._run_dir / BEST_RESULT, json.dumps(_best_result(result), indent=2) + "\n")
        self._progress.evaluated(result)
        return result

    def note_start(self) -> None:
        """Record version 0."""
        evaluated = self._evaluate(0)
        if self._health is not None:
            self._health.begin(0, None, _numbers_of(evaluated))

    def _findings(self, record: StepMetrics, evaluated: InterimResult | None) -> Sequence[HealthFinding]:
        if self._health is None:
            return ()
        return self._health.see(record.step, asdict(record) | _numbers_of(evaluated))

    @property
    def metrics_position(self) -> int:
        """Return the number of written bytes of `metrics.jsonl`."""
        return self._metrics.position

    def __enter__(self) -> Self:
        self._measured.rewards.metrics()  # what was scored before the first step is not the first step's
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        self._metrics.close(RunEnd.of(fault))
        self._rollouts.close()
