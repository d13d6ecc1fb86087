"""A run that starts from the policy of another, and goes on when that one's folder is gone: real parts throughout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from floe.cluster.evaluation.saved_evaluation import read_evaluation
from tests.command_line import config, floe

pytestmark = [pytest.mark.engine, pytest.mark.long]

WEIGHTS = "adapter_model.safetensors"


def records(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def greedy_answers(run_dir: Path, name: str) -> dict:
    saved = read_evaluation(run_dir / "evaluations" / name / "evaluation.json")
    return {record.question_id: (record.greedy.sql, record.greedy.outcome) for record in saved.records}


def test_the_policy_of_one_run_starts_another_which_needs_its_folder_no_more(smoke_run, tmp_path):
    given, run_dir = tmp_path / "first" / "adapters" / "latest", tmp_path / "second"
    shutil.copytree(smoke_run.run_dir / "adapters" / "latest", given)
    shutil.copy(smoke_run.run_dir / "config.yaml", tmp_path / "first" / "config.yaml")
    first = tmp_path / "first"
    overrides = (
        "cluster.address=local", f"lora.initial_adapter={first}", "algorithm.kl_reference=base", "run.seed=1",
        "run.num_steps=1", "run.checkpoint_every_steps=1", "data.max_train_questions=24",
        "evaluation.include_base=false", "evaluation.include_entropy_control=false",
    )  # fmt: skip
    done = floe("train", "--config", config("smoke.yaml"), "--run-dir", str(run_dir), *overrides, home=smoke_run.home)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert f"starts from the adapter {given}: rank 16, alpha 32" in " ".join(done.stdout.split())
    answers = greedy_answers(run_dir, "start")
    assert answers and answers == greedy_answers(smoke_run.run_dir, "trained")
    assert (run_dir / "adapters" / "start" / WEIGHTS).read_bytes() == (given / WEIGHTS).read_bytes()
    assert [row["name"] for row in json.loads((run_dir / "report.json").read_text())["rows"]] == [
        "initial adapter",
        "GRPO",
    ]
    assert records(run_dir)[0]["kl"] > 1e-3  # to the base, from which the first run's policy has moved away
    shutil.rmtree(first)
    again = floe("train", "--resume", str(run_dir), "run.num_steps=2", "evaluation.enabled=false", home=smoke_run.home)
    assert again.returncode == 0, again.stdout[-4000:] + again.stderr[-4000:]
    assert "goes on from its own copy" in " ".join(again.stdout.split())
    assert [record["step"] for record in records(run_dir)] == [1, 2]
