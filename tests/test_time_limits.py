"""Limits at the speed of the machine: by a clock of the test, slow actors are left alone and stuck ones are not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import GetTimeoutError

from floe.cluster.messages import WarmStartBatch
from floe.cluster.ray_actors import learner_handle, rollout_pool
from floe.cluster.ray_actors.learner_handle import LearnerHandle, SupervisedHandle
from floe.cluster.ray_actors.rollout_pool import RolloutActorLost, RolloutPool
from floe.cluster.time_plan.limits import scaled_limits
from floe.cluster.waits import Waits, WaitTooLong
from floe.configs.schema import RunConfig
from tests.fake_cluster import group_of, request
from tests.scored_groups import step_report
from tests.test_forecast import PLAN

CONFIG = RunConfig()
SLOW = 10
# A machine whose plan was made from its own rates.
SLOW_PLAN = replace(PLAN, wave_s=300, learning_s=900, batch_s=600, start_s=300)


def limits(config: RunConfig) -> dict[str, float]:
    return {
        "start": config.start_limit_s,
        "step": config.cluster.step_timeout_s,
        "group": config.rollout.stuck_after_s,
        "worker": config.reward.stuck_after_s,
        "judge": config.reward.judge_time_limit_s,
    }


def test_each_limit_grows_with_the_slowdown():
    given, scaled = limits(CONFIG), limits(scaled_limits(CONFIG, SLOW, None))
    assert scaled == {name: SLOW * limit_s for name, limit_s in given.items()}


def test_a_fast_machine_keeps_what_was_given():
    assert limits(scaled_limits(CONFIG, 1.0, PLAN)) == limits(CONFIG)
    assert limits(scaled_limits(CONFIG, 0.2, None)) == limits(CONFIG)


def test_each_wait_may_take_ten_times_its_plan():
    scaled = scaled_limits(CONFIG, 1.0, SLOW_PLAN)
    assert scaled.rollout.stuck_after_s == 3000 and scaled.cluster.step_timeout_s == 9000
    assert scaled.cluster.start_timeout_s == 3000


def test_a_verdict_means_the_same_on_every_machine():
    scaled = scaled_limits(CONFIG, SLOW, SLOW_PLAN)
    assert scaled.reward.time_limit_s == CONFIG.reward.time_limit_s
    assert scaled.model_dump(exclude={"cluster", "rollout", "reward"}) == CONFIG.model_dump(
        exclude={"cluster", "rollout", "reward"}
    )


class FakeRay:
    """Answers that arrive by a fake clock, without processes."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.num_killed = 0

    def put(self, value):
        return value

    def kill(self, handle) -> None:
        self.num_killed += 1

    def wait(self, waiting, num_returns, timeout):
        first = min(waiting, key=lambda one: one.ready_s)
        if first.ready_s > self.now_s + timeout:
            self.now_s += timeout
            return [], list(waiting)
        self.now_s = max(self.now_s, first.ready_s)
        return [first], [one for one in waiting if one is not first]

    def get(self, asked, timeout=math.inf):
        if isinstance(asked, list):
            return [self.get(one, timeout) for one in asked]
        if asked.ready_s > self.now_s + timeout:
            self.now_s += timeout
            raise GetTimeoutError
        self.now_s = max(self.now_s, asked.ready_s)
        return asked.value


class Stream:
    """Values of which each takes `each_s` from the one before."""

    def __init__(self, ray: FakeRay, values: list, each_s: float) -> None:
        self._ray, self._values, self._each_s = ray, values, each_s
        self.ready_s = ray.now_s + each_s

    def __next__(self):
        if not self._values:
            raise StopIteration
        ready = SimpleNamespace(value=self._values.pop(0), ready_s=self.ready_s)
        self.ready_s = self._ray.now_s + (self._each_s if self._values else 0.0)
        return ready


class Actor:
    """A rollout actor, or a rank; its calls take `each_s`."""

    def __init__(self, ray: FakeRay, each_s: float) -> None:
        self._ray, self._each_s = ray, each_s

    @property
    def generate(self):
        return self._streaming(lambda requests, version: [group_of(one) for one in requests])

    @property
    def train(self):
        batches = [WarmStartBatch(number=i, max_number=3, seconds=1.0) for i in (1, 2, 3)]
        return self._streaming(lambda *_: list(batches))

    @property
    def update(self):
        def remote(step, groups, answers):
            return SimpleNamespace(value=step_report(step=step), ready_s=self._ray.now_s + self._each_s)

        return SimpleNamespace(remote=remote)

    def _streaming(self, values_of):
        def remote(*arguments):
            return Stream(self._ray, values_of(*arguments), self._each_s)

        return SimpleNamespace(options=lambda num_returns: SimpleNamespace(remote=remote))


@pytest.fixture
def ray(monkeypatch) -> FakeRay:
    fake = FakeRay()
    clock = SimpleNamespace(monotonic=lambda: fake.now_s)
    for module in (learner_handle, rollout_pool):
        monkeypatch.setattr(module, "ray", fake)
        monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(module, "waits", Waits(clock.monotonic))
    return fake


def generated(ray: FakeRay, config: RunConfig, each_s: float, successor_each_s: float) -> RolloutPool:
    """Return a pool that has generated three groups."""
    pool = RolloutPool(
        [Actor(ray, each_s)], config.rollout.stuck_after_s, lambda number, before: Actor(ray, successor_each_s), 2
    )
    requests = [request(f"q{i}", seed=i) for i in range(3)]
    assert [group.seed for group in pool.generate(requests, 0)] == [0, 1, 2]
    return pool


def test_an_engine_ten_times_slower_than_planned_is_left_alone(ray):
    slow_s = SLOW * SLOW_PLAN.wave_s - 1
    pool = generated(ray, scaled_limits(CONFIG, 1.0, SLOW_PLAN), slow_s, slow_s)
    assert (pool.num_replaced, ray.num_killed) == (0, 0)
    with pytest.raises(RolloutActorLost):  # with the limits as they were given it would be lost again and again
        generated(ray, CONFIG, slow_s, slow_s)


def test_an_engine_of_a_machine_ten_times_slower_is_left_alone(ray):
    slow_s = SLOW * CONFIG.rollout.stuck_after_s - 1
    assert generated(ray, scaled_limits(CONFIG, SLOW, None), slow_s, slow_s).num_replaced == 0


def test_an_engine_that_is_stuck_is_replaced_on_a_slow_machine_too(ray):
    config = scaled_limits(CONFIG, SLOW, SLOW_PLAN)
    pool = generated(ray, config, math.inf, SLOW_PLAN.wave_s)
    assert (pool.num_replaced, ray.num_killed) == (1, 1)
    assert ray.now_s == pytest.approx(config.rollout.stuck_after_s + 3 * SLOW_PLAN.wave_s)


def test_a_warm_start_ten_times_slower_than_planned_goes_on_and_a_stuck_one_ends(ray):
    config = scaled_limits(CONFIG, 1.0, SLOW_PLAN)

    def trained(each_s: float) -> list:
        handle = SupervisedHandle([Actor(ray, each_s)], config.cluster.step_timeout_s)
        return list(handle.train([], [], Path("adapter"), Path("checkpoint")))

    assert [batch.number for batch in trained(SLOW * SLOW_PLAN.batch_s)] == [1, 2, 3]
    with pytest.raises(WaitTooLong, match="the warm start's next batch"):
        trained(math.inf)


def test_an_update_ten_times_slower_than_planned_is_waited_for_and_a_stuck_one_ends(ray):
    config = scaled_limits(CONFIG, 1.0, SLOW_PLAN)

    def updated(each_s: float):
        return LearnerHandle([Actor(ray, each_s)], config.cluster.step_timeout_s).update(1, [])

    assert updated(SLOW * SLOW_PLAN.learning_s - 1).step == 1
    with pytest.raises(WaitTooLong, match="update of step 1"):
        updated(math.inf)
