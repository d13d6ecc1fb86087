"""Rollout actors that die: nothing is lost or doubled, the random streams stay, and endless deaths stop the run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import psutil
import pytest
import ray

from floe.cluster.ray_actors.placement import put_blob
from floe.cluster.ray_actors.rollout_pool import MAX_LOSSES_IN_A_ROW, RolloutActorLost, RolloutPool
from floe.learner.adapter.export import export_blob
from tests.fake_cluster import request
from tests.mortal_actor import Faulty, Mortal
from tests.ray_processes import actor_processes
from tests.test_adapter_broadcast import config, pool, request_for, tensors

pytestmark = pytest.mark.engine

__all__ = ["config", "pool", "request_for", "tensors"]  # fixtures


def engines() -> list[psutil.Process]:
    return actor_processes("RolloutActor")


def test_groups_of_a_killed_actor_are_generated_again_each_once_and_the_same(pool, config, tensors, request_for):
    pool.install(export_blob(tensors, config.lora, 1, put_blob, config.rollout.dtype))
    requests = [replace(request_for(index), seed=1000 * index + 7) for index in range(6)]
    calm = {group.seed: [c.token_ids for c in group.completions] for group in pool.generate(requests, 1)}
    groups = []
    for group in pool.generate(requests, 1):
        if not groups:
            (engine,) = engines()
            engine.kill()
        groups.append(group)
    assert Counter(group.seed for group in groups) == Counter(one.seed for one in requests)
    assert {group.seed: [c.token_ids for c in group.completions] for group in groups} == calm
    assert {c.newest_adapter_version for group in groups for c in group.completions} == {1}
    assert pool.num_replaced == 1


@pytest.mark.long
def test_an_actor_that_dies_between_put_and_install_is_replaced_and_holds_both_versions(
    pool, config, tensors, request_for
):
    pool.install(export_blob(tensors, config.lora, 2, put_blob, config.rollout.dtype))
    before = pool.num_replaced
    manifest = export_blob(tensors, config.lora, 3, put_blob, config.rollout.dtype)
    (engine,) = engines()
    engine.kill()
    (receipt,) = pool.install(manifest)
    assert receipt.version == 3 and pool.num_replaced == before + 1
    for version in (2, 3):
        (group,) = pool.generate([request_for(0)], version)
        assert {c.oldest_adapter_version for c in group.completions} == {version}


def mortal_pool(config, groups_per_life: int) -> RolloutPool:
    def start(number: int, num_before: int):
        return ray.remote(Mortal).options(num_cpus=0).remote(groups_per_life)

    return RolloutPool([start(0, 0)], config.cluster.step_timeout_s, start, 2)


def test_too_many_losses_in_a_row_stop_the_run_with_the_cause(pool, config):
    dying = mortal_pool(config, 0)
    with pytest.raises(RolloutActorLost, match=f"lost {MAX_LOSSES_IN_A_ROW + 1} times in a row") as stopped:
        list(dying.generate([request("q", seed=1)], None))
    assert "\n" not in str(stopped.value)


def test_losses_with_groups_between_them_do_not(pool, config):
    requests = [request(f"q{seed}", seed=seed) for seed in range(MAX_LOSSES_IN_A_ROW + 3)]
    reborn = mortal_pool(config, 1)
    assert sorted(group.seed for group in reborn.generate(requests, None)) == list(range(len(requests)))
    assert reborn.num_replaced >= MAX_LOSSES_IN_A_ROW + 1


def test_a_fault_inside_the_engine_costs_the_actor_and_not_the_run(pool, config):
    lives = [Faulty, Mortal]

    def start(number: int, num_before: int):
        return ray.remote(lives.pop(0)).options(num_cpus=0).remote(10)

    pool_of_two_lives = RolloutPool([start(0, 0)], config.cluster.step_timeout_s, start, 2)
    assert [group.seed for group in pool_of_two_lives.generate([request("q", seed=5)], None)] == [5]
    assert pool_of_two_lives.num_replaced == 1
