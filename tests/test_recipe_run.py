"""The reference recipe from its beginning to its table, with the tiny model in the 3B's place, on a CPU."""

from __future__ import annotations

import json

import pytest

from floe.learner.adapter.files import CONFIG
from tests.test_resume import LIMIT_S, floe, records

pytestmark = [pytest.mark.engine, pytest.mark.long]

# What the tiny model, the demo's questions and a processor need; a warm start, so that some answers are right.
IN_ITS_PLACE = (
    "model.path=embedded:tiny-qwen2", "model.max_context_tokens=256", "data.source=demo", "prompt.style=compact",
    "prompt.example_values=0", "prompt.descriptions=none", "prompt.retrieved_values=0", "rollout.max_new_tokens=40",
    "rollout.kv_cache_gib=1",
    "rollout.num_gpus=0", "learner.num_gpus=0", "learner.max_pack_tokens=2048", "cluster.address=local",
    "warm_start.enabled=true", "warm_start.learning_rate=1e-3", "warm_start.max_train_questions=96",
    "warm_start.batch_questions=16", "warm_start.max_epochs=1", "warm_start.evals_per_epoch=2",
    "evaluation.max_questions=4", "evaluation.num_samples=2",
)  # fmt: skip
TWO_STEPS = ("run.num_epochs=1", "data.max_train_questions=32")


def test_the_recipe_runs_whole_with_the_tiny_model_in_its_place(other_home, tmp_path):
    run_dir = tmp_path / "run"
    options = ("--config", "arctic_3b_recipe", "--run-dir", str(run_dir), *IN_ITS_PLACE, *TWO_STEPS)
    assert floe(run_dir, other_home, *options).wait(timeout=LIMIT_S) == 0, (tmp_path / "run.log").read_text()
    found = records(run_dir)
    assert [record["step"] for record in found] == [1, 2]
    assert all(record["grad_norm"] > 0 and record["kl"] > 0 for record in found)  # the KL of dropout at the first step
    assert all(record["learning_rate"] <= 1e-6 for record in found)
    assert "1 epoch of 32 questions: 2 steps of 16 questions" in (tmp_path / "run.log").read_text()
    assert json.loads((run_dir / "adapters" / "latest" / CONFIG).read_text())["lora_dropout"] == 0.05
    assert (run_dir / "report.json").is_file()
