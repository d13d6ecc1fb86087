"""The whole-step bench: its figures, and small steps that floe and trl really make of the same questions."""

from __future__ import annotations

import json

import pytest

from floe.cluster.bench.choice import chosen
from floe.cluster.bench.whole_step import step_bench
from floe.cluster.bench.whole_step.floe_steps import with_added
from floe.cluster.bench.whole_step.step_figures import (
    FLOE,
    TRL_GENERATE,
    TRL_VLLM,
    WAYS,
    StepTimes,
    StepTotals,
    WholeSteps,
)
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config

SMALL = (
    "model.path=embedded:tiny-qwen2", "model.max_context_tokens=256", "rollout.max_new_tokens=24",
    "reward.num_workers=1", "rollout.questions_per_step=2", "rollout.group_size=4", "cluster.address=local",
)  # fmt: skip


def times(step_s: float, num_tokens: int) -> StepTimes:
    parts = {"generate_s": step_s / 2, "reward_s": 0.0, "update_s": step_s / 4, "sync_s": step_s / 4}
    return StepTimes(step_s=step_s, num_tokens=num_tokens, **parts)


@pytest.mark.long
@pytest.mark.engine
def test_both_make_steps_of_the_same_questions(other_home, capsys):
    config = load_config(None, [*step_bench.BENCH_OVERRIDES, *SMALL, f"run.home={other_home}"])
    step_bench.bench_trl(config, as_json=True, choice=chosen(WAYS, "trl", None, 2))
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["steps"]) == {FLOE, TRL_GENERATE} and printed["left_out"] == {}
    for steps in printed["steps"].values():
        assert len(steps) == 2
        assert all(0 < one["num_tokens"] <= 2 * 4 * 24 for one in steps)
        assert all(one["generate_s"] > 0 and one["update_s"] > 0 for one in steps)
        for one in steps:
            parts = one["generate_s"] + one["reward_s"] + one["update_s"] + one["sync_s"]
            assert parts == pytest.approx(one["step_s"], rel=0.2)
    assert [one["verdict"] for one in printed["targets"]][3:] == ["not measured"] * 3
    assert printed["targets"][0]["ratio"] > 0


def test_ratios_are_by_token_and_of_what_was_measured():
    ours, theirs = (times(1.0, 100), times(3.0, 300)), (times(4.0, 100), times(4.0, 100))
    found = WholeSteps(notes=(), ways={FLOE: ours, TRL_GENERATE: theirs}, left_out={TRL_VLLM: "no loader"})
    ratios = {one.name: one.ratio for one in found.targets}
    assert ratios[f"{TRL_GENERATE} / floe, time a token"] == pytest.approx(4.0)
    assert ratios[f"{TRL_GENERATE} / floe, update, time a token"] == pytest.approx(4.0)
    assert ratios[f"{TRL_VLLM} / floe, time a token"] is None
    assert found.record()["left_out"] == {TRL_VLLM: "no loader"}


def test_totals_are_means_of_steps_and_sums_of_tokens():
    found = StepTotals.of([times(1.0, 100), times(3.0, 300)])
    assert (found.num_steps, found.num_tokens, found.step_s) == (2, 400, 2.0)
    assert found.token_ms == pytest.approx(10.0)
    assert found.phases_s["generate_s"] == pytest.approx(1.0)


def test_equal_rewards_get_a_gradient_and_faults_stay_faults():
    assert with_added([0.1, 0.1, None, None, 1.0]) == [0.1, 0.11, None, None, 1.0]


def test_without_trl_the_bench_says_what_to_install(monkeypatch):
    monkeypatch.setattr(step_bench.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="The package trl is not installed: install floe with its extra dev"):
        step_bench.measured_steps(load_config(None, []))


@pytest.mark.parametrize(
    ("num_sequences", "sequence_tokens", "size"), [(32, 200, 32), (64, 200, 32), (64, 1000, 8), (6, 9000, 1)]
)
def test_micro_batches_are_even_parts_within_the_limit(num_sequences, sequence_tokens, size):
    from floe.cluster.bench.whole_step.trl_steps import micro_batch_size

    assert micro_batch_size(num_sequences, sequence_tokens) == size
