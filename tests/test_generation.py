"""Generation ahead of the updates: the bound under adversarial delays, back-pressure, faults, and turns."""

from __future__ import annotations

import random
import threading
import time

import pytest

from floe.cluster.loop.controller import TooManyDroppedGroups, train_grpo
from floe.cluster.loop.dynamic_sampling import collect_step
from floe.cluster.loop.generation import Ahead, InTurn
from floe.cluster.loop.group_collection import Collected
from floe.cluster.loop.token_budget import TokenBudget
from tests.fake_cluster import NO_REFILL, PREFILL, FakeCluster, names_of, names_of_step, requests_of_step


class Delayed(FakeCluster):
    """Counterparts that take random times from a seed; records which of them compute at the same time."""

    def __init__(self, seed: int, most_s: float = 0.01, **arguments) -> None:
        super().__init__(**arguments)
        self._rng = random.Random(seed)
        self._most_s = most_s
        self._inside = threading.Lock()
        self.is_updating = False
        self.num_at_once = 0

    def _wait(self) -> None:
        with self._inside:
            delay_s = self._rng.choice((0.0, self._rng.uniform(0, self._most_s)))
        time.sleep(delay_s)

    def generate(self, requests, adapter_version):
        self._wait()
        self.num_at_once += self.is_updating
        yield from super().generate(requests, adapter_version)

    def update(self, step, groups):
        self.is_updating = True
        self._wait()
        self.is_updating = False
        return super().update(step, groups)

    def export_adapter(self, version):
        self._wait()
        return super().export_adapter(version)


def run_ahead(cluster: FakeCluster, num_steps: int, max_staleness: int, *, in_turns: bool = False) -> FakeCluster:
    def collect(step: int, version: int) -> Collected:
        return collect_step(cluster, cluster, requests_of_step(step), step, version, PREFILL, NO_REFILL)

    generation = Ahead(collect, num_steps=num_steps, max_staleness=max_staleness, in_turns=in_turns, timeout_s=60)
    try:
        train_grpo(
            generation=generation, learner=cluster, device=cluster, broadcast=cluster, recorder=cluster,
            health=cluster, checkpoints=cluster, stop=cluster,
            num_steps=num_steps, budget=TokenBudget(), max_dropped_share=0.2,
        )  # fmt: skip
    finally:
        generation.close()
    return cluster


@pytest.mark.parametrize("max_staleness", [1, 2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_older_than_the_bound_when_it_is_consumed_whatever_the_delays(max_staleness, seed):
    cluster = run_ahead(Delayed(seed), 12, max_staleness)
    generated = [event for event in cluster.events if event[0] == "generate"]
    assert [event[1] for event in generated] == [names_of_step(step) for step in range(1, 13)]
    assert [event[2] for event in generated] == [max(0, step - 1 - max_staleness) for step in range(1, 13)]
    for step in range(1, 13):
        version = generated[step - 1][2]
        assert 0 <= step - 1 - version <= max_staleness
        assert names_of(cluster.trained[step]) == names_of_step(step)
        if version > 0:  # nothing is generated with a version that is not everywhere yet
            assert cluster.events.index(("install", version)) < cluster.events.index(generated[step - 1])


def settled(collected: list[int], num_expected: int) -> list[int]:
    """Return what is there once so many are, and a little later."""
    deadline_s = time.monotonic() + 300
    while len(collected) < num_expected and time.monotonic() < deadline_s:
        time.sleep(0.01)
    time.sleep(0.1)
    return list(collected)


def test_what_waits_is_bounded():
    cluster = FakeCluster()
    collected: list[int] = []

    def collect(step: int, version: int) -> Collected:
        collected.append(step)
        return collect_step(cluster, cluster, requests_of_step(step), step, version, PREFILL, NO_REFILL)

    generation = Ahead(collect, num_steps=50, max_staleness=2, in_turns=False, timeout_s=60)
    assert settled(collected, 3) == [1, 2, 3]
    assert generation.take(1).adapter_version == 0
    generation.note_published(1)
    assert settled(collected, 4) == [1, 2, 3, 4]
    generation.close()


def test_both_sides_compute_at_once_unless_they_take_turns():
    assert run_ahead(Delayed(3, most_s=0.05), 20, 2).num_at_once > 0
    assert run_ahead(Delayed(3, most_s=0.05), 20, 2, in_turns=True).num_at_once == 0


def test_a_fault_of_generation_is_raised_where_the_groups_are_wanted():
    class Broken(FakeCluster):
        def generate(self, requests, adapter_version):
            if adapter_version == 2:
                raise RuntimeError("the engine is gone")
            yield from super().generate(requests, adapter_version)

    cluster = Broken()
    with pytest.raises(RuntimeError, match="the engine is gone"):
        run_ahead(cluster, 9, 1)
    assert sorted(cluster.trained) == [1, 2, 3]


def test_a_run_that_stops_leaves_no_thread_that_generates_on():
    from tests.test_controller import failed

    cluster = Delayed(1, verdicts=failed(1, 3))
    with pytest.raises(TooManyDroppedGroups):
        run_ahead(cluster, 30, 1)
    time.sleep(0.1)
    num_events = len(cluster.events)
    time.sleep(0.1)
    assert len(cluster.events) == num_events


def test_in_turn_a_step_is_generated_when_it_is_taken_with_the_version_before_it():
    seen: list[tuple[int, int]] = []

    def collect(step: int, version: int) -> Collected:
        seen.append((step, version))
        return Collected(groups=(), rollout_s=0.0, reward_s=0.0, adapter_version=version)

    generation = InTurn(collect)
    assert seen == []
    assert generation.take(3).adapter_version == 2 and seen == [(3, 2)]
