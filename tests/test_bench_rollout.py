"""The rollout bench, made small: every way generates what was asked, and what it prints is complete."""

import json

import pytest

from floe.cluster.bench import choice, duration, rollout_bench, rollout_ways
from floe.cluster.bench.learner.learner_cases import Case
from floe.cluster.bench.rollout_ways import bench_requests
from floe.configs.files.loading import load_config
from tests.command_line import REPOSITORY


@pytest.mark.engine
@pytest.mark.long
def test_small_bench_prints_every_way_and_ratio(monkeypatch, capsys, smoke_run):
    monkeypatch.setattr(rollout_bench, "NUM_ROUNDS", 1)
    monkeypatch.setattr(rollout_ways, "NUM_QUESTIONS", 2)
    monkeypatch.setattr(rollout_ways, "PROMPT_TOKENS", (20, 40))
    monkeypatch.setattr(rollout_ways, "COMPLETION_TOKENS", 8)
    monkeypatch.setattr(rollout_ways, "FIRST_TOKEN", 10)
    overrides = [f"run.home={smoke_run.home}", "cluster.address=local"]
    rollout_bench.bench_rollout(load_config(REPOSITORY / "configs" / "smoke.yaml", overrides), as_json=True)
    found = capsys.readouterr()
    assert "on this machine" in found.err
    printed = json.loads(found.out)
    names = {
        rollout_bench.ACTOR,
        rollout_bench.BASE,
        rollout_bench.OFFLINE,
        rollout_bench.STOCK,
        rollout_bench.TRANSFORMERS,
    }
    assert set(printed["ways"]) == names
    assert all(0 < way["tokens"] <= 2 * 16 * 8 and way["per_s"] > 0 for way in printed["ways"].values())
    assert [target["at_least"] for target in printed["targets"]] == [0.95, 0.85, 2.0, None]


def test_no_two_rounds_share_a_prompt():
    first, second = bench_requests(1000, 0), bench_requests(1000, 1)
    assert len({request.prompt_token_ids for request in first + second}) == 16
    assert [request.prompt_token_ids for request in bench_requests(1000, 0)] == [r.prompt_token_ids for r in first]


def test_shapes_that_are_asked_for_come_one_after_the_other():
    shapes = (
        Case(prompt_tokens=20, completion_tokens=3, group_size=2),
        Case(prompt_tokens=30, completion_tokens=5, group_size=4),
    )
    requests = bench_requests(1000, 0, shapes)
    found = [(len(one.prompt_token_ids), one.max_new_tokens, one.num_samples) for one in requests]
    assert found == [(20, 3, 2), (30, 5, 4)] * 4


def test_ratios_to_ways_that_were_left_out_are_not_measured():
    actor, offline = (rollout_bench.Tally(per_s=[speed, speed]) for speed in (90.0, 100.0))
    verdicts = {
        target.name: (target.ratio, target.verdict)
        for target in rollout_bench.targets_of({rollout_bench.ACTOR: actor, rollout_bench.OFFLINE: offline})
    }
    assert verdicts.pop(f"actor / {rollout_bench.OFFLINE}") == (0.9, "missed")
    assert set(verdicts.values()) == {(None, "not measured")}


def test_transformers_is_measured_once_and_planned_so():
    everything = choice.Choice(num_rounds=3)
    assert rollout_bench._num_rounds(rollout_bench.ACTOR, everything) == 3
    assert rollout_bench._num_rounds(rollout_bench.TRANSFORMERS, everything) == 1
    one, three = (duration.rollout_bench_s(3e8, 1e11, 6144, [("actor", rounds)]) for rounds in (1, 3))
    assert one < three
    assert three < duration.rollout_bench_s(3e8, 1e10, 6144, [("actor", 3)])
