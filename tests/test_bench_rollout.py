"""The rollout bench, made small: every way generates what was asked, and what it prints is complete."""

import json

import pytest

from cluster.bench import rollout_bench, rollout_ways
from cluster.bench.rollout_ways import bench_requests
from configs.loading import load_config
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
    printed = json.loads(capsys.readouterr().out)
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
