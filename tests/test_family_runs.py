"""Runs of other models than the embedded ones, and a run whose engine and learner differ: real engine, real learner."""

from __future__ import annotations

import json

import pytest

from tests.command_line import config, floe

pytestmark = [pytest.mark.engine, pytest.mark.long]


def test_a_windowed_mistral_is_trained_on_the_probabilities_that_it_was_sampled_with(other_home):
    """Its window is shorter than the prompts; left out by one side, the mismatch was 11.6 nats."""
    done = floe(
        "bench", "families", f"run.home={other_home}", "--only", "mistral", "--trained", "mistral", "--json",
        home=other_home,
    )  # fmt: skip
    (row,) = json.loads(done.stdout)
    assert row["trained_mismatch"] < 1e-3, done.stderr


def test_a_mismatch_above_the_limit_ends_the_run_after_its_record_and_without_a_checkpoint(other_home, tmp_path):
    run_dir = tmp_path / "run"
    limits = ("health.mismatch_warn_nats=1e-12", "health.mismatch_stop_nats=1e-12")
    quick = ("run.num_steps=2", "warm_start.enabled=false", "evaluation.enabled=false", "cluster.address=local")
    done = floe(
        "train", "--config", config("smoke.yaml"), "--run-dir", str(run_dir), f"run.home={other_home}", *quick, *limits,
        home=other_home,
    )  # fmt: skip
    assert done.returncode == 2
    assert "step 1: engine and learner differ by" in done.stderr and "health.mismatch_stop_nats" in done.stderr
    assert [json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()] == [1]
    assert not list((run_dir / "checkpoints").glob("step-*"))
