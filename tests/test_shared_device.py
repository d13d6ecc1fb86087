"""Engine and learner on one GPU: who starts first, what the engine is told, and which settings are refused."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from floe.cluster.memory_plan.phases import Device
from floe.cluster.memory_plan.placements import Sharing
from floe.cluster.operations import smallest_card as cards
from floe.cluster.ray_actors import placement
from floe.cluster.ray_actors.pair_bundles import bundle_of, check_bundles
from floe.cluster.training import attempt as training
from floe.configs.errors import ConfigError, UserError
from floe.configs.files.loading import dump_config, load_config
from floe.configs.schema import RunConfig
from floe.configs.sections.colocation import Colocation
from tests.command_line import REPOSITORY

ON_ONE_GPU = ["rollout.num_gpus=0.5", "learner.num_gpus=0.5"]
GB = 10**9


def pairs(count: int) -> list[str]:
    return [*ON_ONE_GPU, f"rollout.num_actors={count}", f"learner.num_ranks={count}"]


class Starts:
    """Stands for the roles' starts; `events` has them in their order, as each begins and as it has answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.engines_began = threading.Event()
        self.learner_waits_for_engines = False
        self.given: dict[str, Any] = {}
        for role, start in {
            "start_reward_pool": self._rewards,
            "start_learner": self._learner,
            "start_rollout_pool": self._engines,
        }.items():
            monkeypatch.setattr(training, role, start)

    def run(self, config: RunConfig) -> list[str]:
        run: Any = SimpleNamespace(
            config=config,
            progress=SimpleNamespace(phase=lambda name: None),
            sets=SimpleNamespace(databases_dir=Path()),
            model_dir=Path(),
            kv_cache_bytes=123,
        )
        training._start_actors(run, None)
        return self.events

    def _rewards(self, config: RunConfig, databases_dir: Path) -> str:
        return "rewards"

    def _learner(self, config: RunConfig, model_dir: Path, initial: Path | None) -> Any:
        self.events.append("learner begins")
        if self.learner_waits_for_engines:
            assert self.engines_began.wait(60)
        else:
            self.engines_began.wait(0.05)  # an engine that does not wait gets there first
        self.events.append("learner answers")
        return SimpleNamespace(
            release=lambda: self.events.append("learner releases"), await_idle=lambda: self.events.append("idle")
        )

    def _engines(self, config: RunConfig, model_dir: Path, **given: Any) -> str:
        self.events.append("engines begin")
        self.engines_began.set()
        self.given = given
        return "rollouts"


@pytest.mark.parametrize("colocation", Colocation)
@pytest.mark.parametrize("num_pairs", [1, 8])
def test_on_a_shared_gpu_no_engine_starts_before_the_learner_answers(monkeypatch, colocation, num_pairs):
    starts = Starts(monkeypatch)
    events = starts.run(load_config(None, [*pairs(num_pairs), f"cluster.colocation={colocation}"]))
    released = [] if colocation is Colocation.RESIDENT else ["learner releases"]
    assert events == ["learner begins", "learner answers", *released, "engines begin"]
    assert starts.given["kv_cache_bytes"] == 123
    starts.given["await_device"]()
    assert events[-1] == "idle"


@pytest.mark.parametrize("apart", [[], ["rollout.num_gpus=1", "learner.num_gpus=1"]])
def test_with_a_device_each_both_start_at_once(monkeypatch, apart):
    starts = Starts(monkeypatch)
    starts.learner_waits_for_engines = True
    starts.run(load_config(None, [*apart, "cluster.colocation=resident"]))
    assert starts.given["await_device"] is None


class Created:
    """Stands for Ray where a pool creates its engines, and for the pool."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[Any] = []
        self.limits_s: list[float] = []
        monkeypatch.setattr(placement, "ray", SimpleNamespace(remote=lambda role: self))
        monkeypatch.setattr(placement, "places_of", lambda config, num_actors: lambda number: {"bundle": number})
        monkeypatch.setattr(placement, "await_start", self._await_start)
        monkeypatch.setattr(placement, "RolloutPool", lambda handles, stuck_after_s, start, num_live: start)

    def options(self, **options: Any) -> Created:
        self.options_given = options
        return self

    def remote(self, config: RunConfig, model_dir: Path, kv_cache_bytes: int | None) -> str:
        self.events.append((self.options_given["bundle"], kv_cache_bytes))
        return "engine"

    def _await_start(self, handles: Any, role: str, asked: Any, limit_s: float) -> None:
        self.limits_s.append(limit_s)


def test_a_successor_starts_when_the_learner_stands_still_with_the_same_cache_place_and_limit(monkeypatch):
    created = Created(monkeypatch)
    idle = lambda: created.events.append("idle")  # noqa: E731
    start: Any = placement.start_rollout_pool(
        load_config(None, pairs(2)), Path(), kv_cache_bytes=5, await_device=idle
    )  # fmt: skip
    assert created.events == [(0, 5), (1, 5)]
    start(1, 0)
    assert created.events[2:] == ["idle", (1, 5)]
    assert created.limits_s == [1800, 1800]


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (["learner.num_gpus=0.5", "learner.num_ranks=2"], ["learner.num_gpus is 0.5 for 2 ranks"]),
        ([*ON_ONE_GPU, "learner.num_ranks=2"], ["set rollout.num_actors=2", "rollout.num_gpus=0.5"]),
        ([*pairs(8), "rollout.num_actors=4"], ["set rollout.num_actors=8"]),
        ([*pairs(2), "learner.num_gpus=0.75"], ["add up to at most 1"]),
        (["rollout.num_gpus=2"], ["rollout.num_gpus is 2", "no tensor parallelism", "raise rollout.num_actors"]),
        (["learner.num_gpus=2"], ["learner.num_gpus is 2", "no tensor parallelism", "raise learner.num_ranks"]),
    ],
)
def test_what_no_placement_serves_is_refused_where_it_is_read(given, parts):
    with pytest.raises(ConfigError) as refused:
        load_config(None, given)
    assert all(part in str(refused.value) for part in parts), refused.value
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "num_pairs"),
    [
        ([], 0),
        (ON_ONE_GPU, 1),
        (pairs(8), 8),
        ([*pairs(3), "learner.num_gpus=0.3"], 3),
        (["rollout.num_gpus=1", "learner.num_gpus=1", "learner.num_ranks=2", "rollout.num_actors=2"], 0),
        ([*ON_ONE_GPU, "rollout.num_actors=2", "rollout.num_gpus=0.25"], 0),  # two engines beside one rank
        (["learner.num_ranks=2", "rollout.num_actors=2"], 0),
    ],
)
def test_pairs_are_as_many_engines_as_ranks_with_shares_of_a_gpu(given, num_pairs):
    assert load_config(None, given).num_pairs == num_pairs


def test_the_memory_plan_of_pairs_is_that_of_one():
    sharing = Sharing.of(load_config(None, pairs(8)))
    assert (sharing.device, sharing.num_engines, sharing.num_learners) == (Device.SHARED_GPU, 1, 1)


def on_cluster(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float]) -> None:
    total = {name: sum(node[name] for node in nodes) for name in ("CPU", "GPU")}
    fake = SimpleNamespace(
        cluster_resources=lambda: total, nodes=lambda: [{"Alive": True, "Resources": node} for node in nodes]
    )
    monkeypatch.setattr(placement, "ray", fake)


def test_pairs_need_whole_gpus(monkeypatch):
    config = load_config(None, [*pairs(4), "rollout.num_gpus=0.25", "learner.num_gpus=0.25", "reward.num_workers=1"])
    assert placement.needed_resources(config)["GPU"] == 4
    on_cluster(monkeypatch, {"CPU": 8, "GPU": 2})
    with pytest.raises(UserError, match="The run needs 4 Ray GPUs, the cluster has 2"):
        placement.check_resources(config)
    on_cluster(monkeypatch, {"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 2})
    placement.check_resources(config)


def test_each_pair_needs_its_resources_on_one_node(monkeypatch):
    config = load_config(None, [*pairs(4), "rollout.num_cpus=2", "learner.num_cpus=2", "reward.num_workers=1"])
    assert bundle_of(config) == {"GPU": 1.0, "CPU": 4.0}
    on_cluster(monkeypatch, {"CPU": 6, "GPU": 3}, {"CPU": 12, "GPU": 1})
    said = r"The run's 4 pairs .* take 1 GPU and 4 CPU each, on one node, and the cluster's 2 nodes have room for 2: "
    with pytest.raises(UserError, match=said):
        placement.check_resources(config)
    check_bundles(config, [{"CPU": 8, "GPU": 8}] * 2)
    check_bundles(load_config(None, []), [])


@pytest.mark.parametrize(
    ("given", "limit_s"),
    [
        ([], 300),
        (["rollout.num_gpus=1"], 1800),
        (["learner.num_gpus=1"], 1800),
        (["cluster.start_timeout_s=20", "rollout.num_gpus=1"], 20),
    ],
)
def test_a_start_on_a_gpu_may_take_longer_unless_a_limit_is_given(given, limit_s, tmp_path):
    config = load_config(None, given)
    assert config.start_limit_s == limit_s
    dump_config(config, tmp_path / "config.yaml")  # as a resume reads it
    assert load_config(tmp_path / "config.yaml").start_limit_s == limit_s


def test_the_smallest_gpu_of_a_joined_cluster_is_planned_for(monkeypatch):
    class Session:
        def __init__(self, *_: Any, **__: Any) -> None: ...
        def __enter__(self) -> None: ...
        def __exit__(self, *_: Any) -> None: ...

    monkeypatch.setattr(cards, "ray_session", Session)
    monkeypatch.setattr(cards, "cards_of_nodes", lambda config: [80 * GB, 40 * GB])
    monkeypatch.setattr(cards, "budget_bytes", lambda config, given: 24 * GB)
    joins = load_config(None, [*ON_ONE_GPU, "cluster.address=10.0.0.5:6379"])
    assert cards.smallest_card_bytes(joins) == 40 * GB
    assert cards.smallest_card_bytes(load_config(None, [*ON_ONE_GPU, "cluster.address=local"])) == 24 * GB
    assert cards.smallest_card_bytes(load_config(None, ["cluster.address=10.0.0.5:6379"])) == 24 * GB


def test_the_configuration_for_eight_gpus_is_eight_pairs():
    given = ["data.questions=q.json", "data.databases=d"]
    config = load_config(REPOSITORY / "configs" / "qwen25_coder_7b_8gpu.yaml", given)
    assert config.num_pairs == 8
    assert placement.needed_resources(config)["GPU"] == 8
