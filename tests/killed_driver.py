"""Runs `floe` in a driver that is killed in the midst of a phase: FLOE_KILL=phase:step, with FLOE_KILL_SIGNAL.

The phases are those of a step of the main loop, each hooked where the driver makes the call, and a benchmark table's
cell, counted by those that are finished.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from floe.cluster import cli
from floe.cluster.benchmark_table.cell_store import CellStore
from floe.cluster.checkpoints.store import CheckpointStore
from floe.cluster.loop.adapter_broadcast import Broadcast
from floe.cluster.ray_actors.learner_handle import LearnerHandle
from floe.cluster.ray_actors.reward_pool import RewardPool
from floe.cluster.ray_actors.rollout_pool import RolloutPool
from floe.cluster.training import attempt as training

LEARNING_S = 0.1  # into the update, which takes longer


def die() -> None:
    os.kill(os.getpid(), signal.Signals[os.environ.get("FLOE_KILL_SIGNAL", "SIGKILL")])


def starting(*arguments: Any) -> None:
    if is_due("starting", 0):
        die()
    real_check(*arguments)


def generating(pool: RolloutPool, requests: Any, adapter_version: int | None) -> Any:
    for group in real_generate(pool, requests, adapter_version):
        if is_due("generating", (adapter_version or 0) + 1):
            die()
        yield group


def scoring(pool: RewardPool, ticket: Any) -> Any:
    step = the_step[0]
    if is_due("scoring", step):
        die()
    return real_result(pool, ticket)


def learning(learner: LearnerHandle, step: int, groups: Any) -> Any:
    if is_due("learning", step):
        threading.Timer(LEARNING_S, die).start()
    return real_update(learner, step, groups)


def exporting(learner: LearnerHandle, version: int) -> Any:
    manifest = real_export(learner, version)
    if is_due("exporting", version):
        die()
    return manifest


def installing(broadcast: Broadcast, exported: Any) -> Any:
    published, version = real_install(broadcast, exported), exported.manifest.version
    if is_due("installing", version):
        die()
    the_step[0] = version + 1
    return published


def checkpointing(store: CheckpointStore, step: int, fill: Callable, state: Any) -> Any:
    def fill_half(folder: Any) -> None:
        fill(folder)
        if is_due("checkpoint", step):
            die()

    return real_write(store, step, fill_half, state)


def filling(store: CellStore, *cell: Any) -> None:
    real_put(store, *cell)
    num_filled[0] += 1
    if is_due("cell", num_filled[0]):
        die()


def is_due(phase: str, step: int) -> bool:
    return os.environ.get("FLOE_KILL") == f"{phase}:{step}"


the_step = [1]
num_filled = [0]
real_check = training._check_equality
real_generate, real_result = RolloutPool.generate, RewardPool.result
real_update, real_export = LearnerHandle.update, LearnerHandle.export_adapter
real_install, real_write = Broadcast.install, CheckpointStore.write
real_put = CellStore.put

if __name__ == "__main__":
    training._check_equality = starting
    RolloutPool.generate = generating  # type: ignore[method-assign]
    RewardPool.result = scoring  # type: ignore[method-assign]
    LearnerHandle.update = learning  # type: ignore[method-assign]
    LearnerHandle.export_adapter = exporting  # type: ignore[method-assign]
    Broadcast.install = installing  # type: ignore[method-assign]
    CheckpointStore.write = checkpointing  # type: ignore[method-assign]
    CellStore.put = filling  # type: ignore[method-assign]
    cli.main()
