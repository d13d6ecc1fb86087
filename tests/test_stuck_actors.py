"""Actors that stand still or find no place, on a small real Ray: replaced, or named with what they lack."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray

from floe.cluster.loop.adapter_broadcast import Broadcast
from floe.cluster.loop.device_turns import DeviceTurns
from floe.cluster.messages import Outcome
from floe.cluster.ray_actors.actor_start import await_start, resource_sentence
from floe.cluster.ray_actors.learner_handle import LearnerHandle, LearnerLost, SupervisedHandle
from floe.cluster.ray_actors.placement import (
    check_resources,
    put_blob,
    start_learner,
    start_reward_pool,
    start_rollout_pool,
)
from floe.cluster.ray_actors.rollout_pool import MAX_LOSSES_IN_A_ROW, RolloutActorLost, RolloutPool
from floe.cluster.waits import WaitTooLong, waits
from floe.configs.errors import UserError
from floe.configs.schema import ClusterSection, LearnerSection, RewardSection, RolloutSection, RunConfig
from tests.fake_cluster import request
from tests.judge_server import judge_server, said
from tests.mortal_actor import Exporter, Mortal, Receiver, Slow, Stopping
from tests.ray_processes import actor_processes
from tests.score_requests import GOLD, make_database, score_request
from tests.scored_groups import scored_group

pytestmark = pytest.mark.engine

STUCK_AFTER_S = 1.0
BLOB_BYTES = 4 * 2**20
START_S = 1.5


@pytest.fixture(scope="module", autouse=True)
def one_core() -> Iterator[None]:
    ray.init(
        address="local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False,
        object_store_memory=300 * 2**20, _system_config={"worker_niceness": 0, "kill_worker_timeout_milliseconds": 200},
    )  # fmt: skip
    yield
    ray.shutdown()


def actor(role: type, *arguments: object):
    handle = ray.remote(role).options(num_cpus=0).remote(*arguments)
    ray.get(handle.__ray_ready__.remote())  # a start is not what is measured here
    return handle


def pool_of(*lives: tuple, stuck_after_s: float = STUCK_AFTER_S) -> RolloutPool:
    """Make a pool of one actor, with a successor for each further life."""
    left = list(lives)
    return RolloutPool([actor(*left.pop(0))], stuck_after_s, lambda *_: actor(*left.pop(0)), 2)


def test_an_engine_that_stands_still_is_replaced_and_its_groups_are_generated_once():
    pool = pool_of((Stopping, 2), (Mortal, 10))
    requests = [request(f"q{seed}", seed=seed) for seed in range(5)]
    assert [group.seed for group in pool.generate(requests, None)] == list(range(5))
    assert pool.num_replaced == 1
    pool.stop()


def test_one_that_stands_still_is_found_beside_one_that_always_has_something():
    seeds: list[int] = []
    found_after: list[int] = []

    def start(number: int, num_before: int):
        found_after.append(len(seeds))
        return actor(Mortal, 100)

    pool = RolloutPool([actor(Stopping, 0), actor(Slow, 0.08)], STUCK_AFTER_S, start, 2)
    requests = [request(f"q{seed}", seed=seed) for seed in range(60)]
    for group in pool.generate(requests, None):
        seeds.append(group.seed)
    assert sorted(seeds) == list(range(60))
    assert pool.num_replaced == 1
    assert found_after[0] < 30  # the other one had not finished its half
    pool.stop()


def test_a_consumer_that_takes_its_time_makes_no_engine_stuck():
    pool = pool_of((Mortal, 10), stuck_after_s=0.5)
    seeds = []
    for group in pool.generate([request(f"q{seed}", seed=seed) for seed in range(2)], None):
        seeds.append(group.seed)
        time.sleep(0.6)
    assert (seeds, pool.num_replaced) == ([0, 1], 0)
    pool.stop()


@pytest.mark.long
def test_engines_that_always_stand_still_stop_the_run_with_one_sentence():
    pool = pool_of(*[(Stopping, 0)] * (MAX_LOSSES_IN_A_ROW + 1), stuck_after_s=0.3)
    with pytest.raises(RolloutActorLost, match=r"it finished no group in 0\.3 s") as stopped:
        list(pool.generate([request("q", seed=1)], None))
    assert "\n" not in str(stopped.value)
    deadline_s = time.monotonic() + 300
    while (left := actor_processes("Stopping")) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not left  # the last one is ended too


@pytest.mark.long
def test_an_engine_that_does_not_install_is_replaced_and_the_wait_is_named():
    pool = pool_of((Stopping, 0), (Stopping, 1))
    exporter = actor(Exporter, put_blob, 1000)
    seen: list[str] = []
    watcher = threading.Timer(STUCK_AFTER_S / 2, lambda: seen.extend(one.what for one in waits.now()))
    watcher.start()
    (receipt,) = pool.install(ray.get(exporter.export_adapter.remote(3)))
    assert (receipt.version, pool.num_replaced) == (3, 1)
    assert seen == ["rollout actor 0 to install adapter version 3"]
    pool.stop()


def test_an_answer_behind_many_groups_is_waited_for():
    pool = pool_of((Slow, 0.3), stuck_after_s=1.0)
    groups: list[int] = []
    requests = [request(f"q{seed}", seed=seed) for seed in range(7)]
    generating = threading.Thread(target=lambda: groups.extend(group.seed for group in pool.generate(requests, None)))
    generating.start()
    while not groups:
        time.sleep(0.01)
    assert pool.canary_logprobs((1, 2), None) == [[0.0, 0.0]]
    generating.join(30)
    assert (groups, pool.num_replaced) == (list(range(7)), 0)
    pool.stop()


def test_a_reward_worker_that_stands_still_is_replaced_and_its_group_scored(tmp_path):
    make_database(tmp_path)
    config = RunConfig(reward=RewardSection(num_workers=1, num_cpus=0, time_limit_s=0.1, stuck_after_s=1.0))
    pool = start_reward_pool(config, tmp_path, name="standing-still")
    (first,) = actor_processes("Scorer")
    first.send_signal(signal.SIGSTOP)
    scores = pool.result(pool.submit(score_request(GOLD, GOLD, "SELEC")))
    assert [score.outcome for score in scores] == [Outcome.MATCH, Outcome.SYNTAX_ERROR]
    assert pool.metrics().replaced_workers >= 1  # a machine that stands still itself may cost another
    (second,) = actor_processes("Scorer")
    assert second.pid != first.pid
    second.send_signal(signal.SIGSTOP)
    assert pool.metrics().replaced_workers >= 1  # met while its counts were asked for
    assert second.pid not in {one.pid for one in actor_processes("Scorer")}
    pool.stop()


@pytest.mark.long
def test_a_reward_worker_whose_judge_is_slow_is_not_stuck(tmp_path):
    make_database(tmp_path)

    def late(_: dict) -> tuple[int, bytes]:
        time.sleep(1.6)  # longer than the worker has without a judge
        return said({"score": 0.5})

    with judge_server(late) as server:
        judge = {"judge_url": server.url, "judge_model": "judge", "judge_time_limit_s": 20}
        section = {"design": "reasoning_sql", "num_workers": 1, "num_cpus": 0, "stuck_after_s": 1.0, **judge}
        config = RunConfig(reward=RewardSection.model_validate({**section, "time_limit_s": 0.1}))
        pool = start_reward_pool(config, tmp_path, name="slow-judge")
        (score,) = pool.result(pool.submit(score_request(GOLD, "SELECT dept FROM emp")))
        assert score.terms is not None and score.terms["judge"] == 1.0
        assert pool.metrics().replaced_workers == 0
        assert len(server.asked) == 1
        pool.stop()


def test_a_learner_that_gives_no_answer_ends_the_run_with_one_sentence():
    class Deaf:
        def update(self, step, groups, supervised):
            time.sleep(30)

    learner = LearnerHandle([actor(Deaf)], 0.3)
    with pytest.raises(WaitTooLong, match=r"waited 0\.3 s for the learner's update of step 7.*cluster\.step_timeout_s"):
        learner.update(7, [])
    learner.stop()


def test_a_rank_that_dies_in_the_warm_start_is_a_lost_learner(tmp_path):
    has_report = tmp_path / "the driver has the report"

    class Dying:
        def train(self, *_):
            yield "a report"
            while not has_report.exists():
                time.sleep(0.01)
            os._exit(1)

    reports = SupervisedHandle([actor(Dying)], 30).train([], [], Path(), Path())
    assert next(reports) == "a report"
    has_report.touch()
    with pytest.raises(LearnerLost, match="the warm start's next batch"):
        next(reports)


@pytest.fixture
def full() -> Iterator[None]:
    """Take the only core, as when another program of the cluster was faster, after the check."""
    taker = ray.remote(Receiver).options(num_cpus=1).remote()
    ray.get(taker.__ray_ready__.remote())
    yield
    ray.kill(taker)


def config_asking(num_cpus: float) -> RunConfig:
    return RunConfig(
        rollout=RolloutSection(num_cpus=num_cpus),
        reward=RewardSection(num_workers=1, num_cpus=num_cpus),
        learner=LearnerSection(num_cpus=num_cpus),
        cluster=ClusterSection(start_timeout_s=START_S),
    )


STARTS = {
    "rollout actor": lambda config: start_rollout_pool(config, Path("model"), name="unplaced"),
    "reward worker": lambda config: start_reward_pool(config, Path("databases"), name="unplaced-reward"),
    "learner rank": lambda config: start_learner(config, Path("model"), None),
}


def test_actors_without_a_place_name_what_they_ask_for_and_what_is_free(full):
    with ThreadPoolExecutor() as threads:
        starts = {role: threads.submit(start, config_asking(0.25)) for role, start in STARTS.items()}
    for role, start in starts.items():
        fault = start.exception()
        assert isinstance(fault, UserError)
        assert f"a {role} asks for 0.25 CPU (0 of the cluster's 1 are free)" in str(fault)
        assert f"cluster.start_timeout_s = {START_S:g} s" in str(fault)


def test_one_that_has_its_place_and_is_slow_is_not_taken_for_one_without():
    class Slow:
        def ping(self):
            time.sleep(30)

    handle = ray.remote(Slow).options(num_cpus=1).remote()
    ray.get(handle.__ray_ready__.remote())
    with pytest.raises(UserError, match="did not start within"):
        await_start([handle], "thing", {"CPU": 1}, limit_s=0.5)
    ray.kill(handle)


def test_more_than_any_node_has_is_refused_at_once():
    with pytest.raises(UserError, match="The run needs 6 Ray CPUs, the cluster has 1"):
        check_resources(config_asking(2))


def test_the_sentence_of_what_is_missing():
    assert resource_sentence("learner rank", {"CPU": 0.5, "GPU": 1, "memory": 0}, {"CPU": 3}, {"CPU": 4}) == (
        "a learner rank asks for 0.5 CPU (3 of the cluster's 4 are free) and 1 GPU (0 of the cluster's 0 are free)"
    )


def num_stored_bytes() -> int:
    """Return bytes used in Ray's object store, once objects that are no longer held have left it."""
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    return get_memory_info_reply(state).store_stats.object_store_bytes_used


def settled_bytes(most: int) -> int:
    """Wait for the bytes: Ray frees in the background, some seconds late."""
    deadline_s = time.monotonic() + 300
    while (found := num_stored_bytes()) > most and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return found


@pytest.mark.long
def test_adapters_of_retired_versions_leave_the_object_store():
    num_live = 2
    learner = LearnerHandle([actor(Exporter, put_blob, BLOB_BYTES)], 60)
    rollouts = RolloutPool([actor(Receiver), actor(Receiver)], 60, lambda *_: actor(Receiver), num_live)
    before = num_stored_bytes()
    broadcast = Broadcast(learner, rollouts, DeviceTurns(rollouts, learner), (1, 2, 3))
    groups = [scored_group([(Outcome.MATCH, 1.0)], text="x" * 2**20)]
    for version in range(1, 11):
        learner.update(version, groups)
        broadcast.publish(version)
    most = before + num_live * (BLOB_BYTES + 1024)  # with the objects' headers
    assert before + num_live * BLOB_BYTES <= settled_bytes(most) <= most  # what a successor needs is kept
    learner.stop()
    rollouts.stop()
