"""Pairs of an engine and a learner rank on declared GPUs of a real Ray: each has a GPU, also after a loss."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

from floe.cluster.loop.device_turns import DeviceTurns
from floe.cluster.ray_actors.learner_handle import LearnerHandle
from floe.cluster.ray_actors.pair_bundles import GROUP
from floe.cluster.ray_actors.placement import check_resources, start_learner, start_reward_pool, start_rollout_pool
from floe.cluster.ray_actors.rollout_pool import RolloutPool
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig
from tests.command_line import REPOSITORY
from tests.placed_actors import PlacedEngine, PlacedRank, PlacedScorer, note, notes

pytestmark = pytest.mark.engine

NUM_GPUS = 2
STUCK_AFTER_S = 60.0


@pytest.fixture(scope="module")
def stand_ins() -> Iterator[None]:
    with declared_gpus_and_stand_ins():
        yield


@contextmanager
def declared_gpus_and_stand_ins() -> Iterator[None]:
    """A Ray that takes it that there are GPUs, and actors that compute nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(NUM_GPUS))))
        patch.setattr("floe.actors.rollout_actor.RolloutActor", PlacedEngine)
        patch.setattr("floe.learner.learner_actor.LearnerActor", PlacedRank)
        patch.setattr("floe.reward_service.scorer.Scorer", PlacedScorer)
        ray.init(
            address="local", num_cpus=8, num_gpus=NUM_GPUS, include_dashboard=False, log_to_driver=False,
            object_store_memory=300 * 2**20, _system_config={"worker_niceness": 0},
        )  # fmt: skip
        yield
        ray.shutdown()


def config_of(num_pairs: int, *overrides: str) -> RunConfig:
    pairs = [f"rollout.num_actors={num_pairs}", f"learner.num_ranks={num_pairs}"]
    shares = ["rollout.num_gpus=0.5", "learner.num_gpus=0.5", f"rollout.stuck_after_s={STUCK_AFTER_S}"]
    return load_config(None, [*pairs, *shares, "rollout.num_cpus=0.25", "learner.num_cpus=0.25", *overrides])


@dataclass(frozen=True, slots=True)
class Pairs:
    learner: LearnerHandle
    rollouts: RolloutPool
    folder: Path  # of their notes

    def places(self) -> tuple[list, list]:
        ranks = ray.get([rank.place.remote() for rank in self.learner._ranks])
        return ranks, [found[:2] for found in self.rollouts.canary_logprobs((), None)]


def started(config: RunConfig, folder: Path) -> Pairs:
    return Pairs(start_learner(config, folder, None), start_rollout_pool(config, folder, kv_cache_bytes=7), folder)


def leave_gpus() -> None:
    """End what ends with a run's driver, which here is the test's process."""
    ray.util.remove_placement_group(ray.util.get_placement_group(GROUP))


@pytest.fixture(scope="module")
def pairs(stand_ins, tmp_path_factory) -> Iterator[Pairs]:
    made = started(config_of(NUM_GPUS), tmp_path_factory.mktemp("pairs"))
    yield made
    made.learner.stop()
    made.rollouts.stop()
    leave_gpus()


def test_each_pair_has_a_gpu_and_both_of_a_pair_the_same(pairs):
    check_resources(config_of(NUM_GPUS))
    ranks, engines = pairs.places()
    assert len(set(ranks)) == NUM_GPUS and all(len(gpus) == 1 for _, gpus in ranks)
    assert engines == ranks
    assert {found[2] for found in pairs.rollouts.canary_logprobs((), None)} == {7}  # the planned KV cache
    ray.kill(pairs.rollouts._handles[1])
    assert pairs.places() == (ranks, ranks)
    assert pairs.rollouts.num_replaced == 1


def test_every_pair_hands_its_own_device_over_and_all_at_once(pairs):
    turns = DeviceTurns(pairs.rollouts, pairs.learner)
    turns.to_learner()
    assert notes(pairs.folder) == ["engine released"] * 2 + ["rank acquired"] * 2
    turns.to_rollouts()
    assert notes(pairs.folder)[4:] == ["rank released"] * 2 + ["engine acquired"] * 2


def test_a_learner_at_work_is_waited_for(pairs):
    num_before = len(notes(pairs.folder))
    busy = [rank.update.remote(1, []) for rank in pairs.learner._ranks]
    threading.Timer(0.3, lambda: note(pairs.folder, "may end")).start()
    pairs.learner.await_idle()
    assert notes(pairs.folder)[num_before:] == ["may end", "updated", "updated"]
    ray.get(busy)


def test_who_asks_for_no_gpu_sees_none(stand_ins, tmp_path):
    config = load_config(None, ["reward.num_workers=1"])
    learner = start_learner(config, tmp_path, None)
    rollouts = start_rollout_pool(config, tmp_path, name="blind")
    rewards = start_reward_pool(config, tmp_path, name="blind-reward")
    handles = [*learner._ranks, *rollouts._handles, *rewards._handles]
    assert ray.get([handle.visible_devices.remote() for handle in handles]) == ["", "", ""]
    for handle in handles:
        ray.kill(handle)


TWO_NODES = """
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
import floe.actors.rollout_actor, floe.learner.learner_actor
from floe.cluster.ray_actors.placement import check_resources
from tests.placed_actors import PlacedEngine, PlacedRank
from tests.test_pair_placement import config_of, started

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0, "include_dashboard": False})
for _ in range(2):
    cluster.add_node(num_cpus=4, num_gpus=2, include_dashboard=False)
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False)
floe.actors.rollout_actor.RolloutActor, floe.learner.learner_actor.LearnerActor = PlacedEngine, PlacedRank
config = config_of(4)
check_resources(config)
ranks, engines = started(config, Path(".")).places()
print(len(set(ranks)), len({node for node, _ in ranks}), engines == ranks)
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.long
def test_pairs_lie_on_the_gpus_of_two_nodes():
    done = subprocess.run(
        [sys.executable, "-c", TWO_NODES], capture_output=True, text=True, timeout=1800, cwd=REPOSITORY
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["4", "2", "True"]
