"""Answers cells: local policies with one engine and reward workers of one data set at a time (Ray), others by HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from floe.cluster.benchmark_table.rows import Column, Row
from floe.cluster.checkpoints.inputs import adapter_digest
from floe.cluster.endpoints.evaluation import endpoint_evaluation
from floe.cluster.evaluation.harness import Harness
from floe.cluster.evaluation.records import evaluation_of
from floe.cluster.evaluation.saved_evaluation import Evaluation
from floe.cluster.ray_actors.placement import (
    check_resources,
    ray_session,
    start_reward_pool,
    start_rollout_pool,
    stored_adapter,
)
from floe.cluster.ray_actors.reward_pool import RewardPool
from floe.cluster.ray_actors.rollout_pool import RolloutPool
from floe.cluster.terminal.progress import Progress
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig


class EngineAnswers:
    """Holds the engine, the reward workers of the data set at hand, and the adapters that are installed.

    Starting an engine takes longer than a small cell, so there is one for the whole table; adapters are installed in
    turn, each under a version of its own.
    """

    def __init__(self, config: RunConfig, model_dir: Path, progress: Progress, *, with_samples: bool) -> None:
        self._config, self._progress = config, progress
        self._with_samples = with_samples
        started_s = time.monotonic()
        self._rollouts: RolloutPool = start_rollout_pool(config, model_dir)
        progress.note(f"one engine for all cells, started in {time.monotonic() - started_s:.1f} s")
        self._rewards: tuple[str, RewardPool] | None = None  # with the data set's name
        self._installed: tuple[str, int] | None = None  # the last policy and its version
        self._num_installed = self._num_pools = 0

    def evaluation(self, row: Row, column: Column) -> Evaluation:
        """Have the policy answer the data set. Raises UserError for an adapter that can't be served."""
        assert row.asked is not None
        rollouts, rewards = self._rollouts, self._rewards_of(row)
        harness = Harness(row.config, row.asked.encoder, rollouts, rewards, 0, self._progress.answers)
        version = self._version_of(column)
        if self._with_samples:
            temperature = row.config.evaluation.temperature
            answered = harness.answers(column.name, row.asked.fitting, version, temperature)
        else:
            answered = harness.greedy_alone(column.name, row.asked.fitting, version)
        return evaluation_of(row.config, row.asked, answered, column.adapter)

    def _rewards_of(self, row: Row) -> RewardPool:
        if self._rewards is not None and self._rewards[0] == row.name:
            return self._rewards[1]
        if self._rewards is not None:
            self._rewards[1].stop()
            self._rewards = None
        assert row.asked is not None
        # A stopped worker's name may still be taken.
        pool = start_reward_pool(row.config, row.asked.databases_dir, name=f"reward-{self._num_pools}")
        self._num_pools += 1
        self._rewards = row.name, pool
        return pool

    def _version_of(self, column: Column) -> int | None:
        if column.adapter is None:
            return None
        if self._installed is not None and self._installed[0] == column.name:
            return self._installed[1]
        manifest = replace(stored_adapter(self._config, column.adapter), version=self._num_installed)
        if adapter_digest(column.adapter, self._config.run.home_dir) != column.digest:
            raise UserError(
                f"The adapter in {column.adapter} was written anew while the table was filled: copy the one that is "
                "meant, and give the copy."
            )
        self._rollouts.install(manifest)
        self._installed = column.name, self._num_installed
        self._num_installed += 1
        return manifest.version


class EndpointAnswers:
    """Has models behind endpoints answer; what they answered is kept in `answers_dir`, and not asked for again."""

    def __init__(self, progress: Progress, answers_dir: Path | None, *, with_samples: bool) -> None:
        self._progress, self._answers_dir, self._with_samples = progress, answers_dir, with_samples

    def evaluation(self, row: Row, column: Column) -> Evaluation:
        """Raises UserError for an endpoint that can't be used or gives too few answers."""
        endpoint = column.policy.endpoint
        assert row.asked is not None and endpoint is not None
        config = row.config
        if not self._with_samples:  # the samples' temperature tells their requests from the greedy ones
            sampling = config.evaluation.model_copy(update={"temperature": 1.0})
            config = config.model_copy(update={"evaluation": sampling})
        answered = endpoint_evaluation(
            config, row.asked, endpoint, self._progress, self._answers_dir, greedy_alone=not self._with_samples
        )
        identity = replace(answered.identity, temperature=row.config.evaluation.temperature)
        return replace(answered, identity=identity)


@dataclass(frozen=True, slots=True)
class AnyAnswers:
    """Asks each policy where it is."""

    local: EngineAnswers | None  # None where no local policy has anything to answer
    behind: EndpointAnswers

    def evaluation(self, row: Row, column: Column) -> Evaluation:
        """Raises UserError where the policy can't answer."""
        if column.policy.endpoint is not None:
            return self.behind.evaluation(row, column)
        assert self.local is not None
        return self.local.evaluation(row, column)


@contextmanager
def all_answers(
    columns: Sequence[Column],
    config: RunConfig,
    model_dir: Path,
    progress: Progress,
    answers_dir: Path | None,
    *,
    with_samples: bool,
) -> Iterator[AnyAnswers]:
    """Yield what answers cells; Ray and an engine are started for local policies alone, and end with it.

    Raises UserError.
    """
    behind = EndpointAnswers(progress, answers_dir, with_samples=with_samples)
    if all(one.policy.endpoint is not None for one in columns):
        yield AnyAnswers(None, behind)
        return
    with ray_session(config.cluster, namespace="floe-benchmarks") as line:
        progress.note(line)
        check_resources(config)
        yield AnyAnswers(EngineAnswers(config, model_dir, progress, with_samples=with_samples), behind)
