"""The reward bench, made small: every way gives the same verdicts, and what it prints is complete."""

import json

import pytest

from floe.cluster.bench.reward import reward_bench
from floe.cluster.bench.reward.reward_workload import bench_questions
from floe.configs.files.loading import load_config
from tests.preloaded.python import NAME

pytestmark = pytest.mark.engine


@pytest.mark.long
def test_small_bench_prints_every_way_and_ratio(monkeypatch, capsys):
    monkeypatch.delenv(NAME, raising=False)  # the bench counts the time of Ray's children, which preloaded ones are not
    monkeypatch.setattr(reward_bench, "NUM_QUESTIONS", 8)
    monkeypatch.setattr(reward_bench, "NUM_ROUNDS", 2)
    reward_bench.bench_reward(load_config(None, ["cluster.address=local"]), as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert {name: way["scores"] for name, way in printed["ways"].items()} == {
        reward_bench.BARE_DISTINCT: 4 * 8,
        reward_bench.OURS_DISTINCT: 4 * 8,
        reward_bench.BARE_SAMPLED: 4 * 16,
        reward_bench.OURS_SAMPLED: 4 * 16,
        reward_bench.BIRD: 4 * 16,
        reward_bench.PROCESSES: 2 * 16,
        reward_bench.RAY_1: 4 * 16,
        reward_bench.RAY_2: 4 * 16,
    }
    assert all(target["ratio"] > 0 for target in printed["targets"])
    assert {target["verdict"] for target in printed["targets"]} <= {"reached", "missed", "-"}


def test_half_of_a_groups_candidates_are_distinct():
    questions = bench_questions(200, 16)
    assert {len(question.candidates) for question in questions} == {16}
    assert {len(question.distinct) for question in questions} == {8}
    assert len({question.gold for question in questions}) == 200
    golds = sum(question.candidates.count(question.gold) for question in questions)
    assert 0.2 < golds / (200 * 16) < 0.5


def test_ways_that_disagree_are_an_error():
    tallies = {name: reward_bench.Tally(matches={"SELECT 1": [True]}) for name in reward_bench.ALL_WAYS}
    reward_bench.check_agreement(tallies)
    tallies[reward_bench.RAY_1].matches["SELECT 1"] = [False]
    with pytest.raises(RuntimeError, match="disagree"):
        reward_bench.check_agreement(tallies)
