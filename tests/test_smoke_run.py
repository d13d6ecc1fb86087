"""Results of a whole run, checked on the smoke configuration with every real part."""

import json
import sqlite3
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from floe.cluster.evaluation.saved_evaluation import read_evaluation
from floe.cluster.evaluation.submissions import NO_ANSWER
from floe.configs.files.loading import load_config
from floe.reward_service.sql_text.statement import one_line
from tests.command_line import SECRET, config, floe

pytestmark = pytest.mark.engine

REQUIRED_METRICS = {
    "step", "reward_mean", "correct_share", "executes_share", "zero_variance_share", "kl", "loss", "grad_norm",
    "ratio_clip_share", "adapter_version", "rollout_s", "reward_s", "learn_s", "sync_s", "handover_s",
    "generated_tokens", "trained_tokens",
}  # fmt: skip


def write_spider_layout(folder: Path, demo: Path) -> Path:
    """Write the demo's held-back questions as a benchmark's folder: `dev.json` next to `database/`."""
    folder.mkdir()
    questions = json.loads((demo / "tune.json").read_text())
    (folder / "dev.json").write_text(
        json.dumps([{**one, "query": one.get("query") or one["SQL"]} for one in questions])
    )
    (folder / "tables.json").write_text("[]")
    (folder / "database").symlink_to(demo / "databases")
    return folder


@pytest.fixture(scope="module")
def metrics(smoke_run):
    return [json.loads(line) for line in (smoke_run.run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def rollouts(smoke_run):
    connection = sqlite3.connect(smoke_run.run_dir / "rollouts.sqlite")
    connection.row_factory = sqlite3.Row
    yield connection
    connection.close()


def test_three_steps_with_every_metric(metrics):
    assert [record["step"] for record in metrics] == [1, 2, 3]
    assert all(record.keys() >= REQUIRED_METRICS for record in metrics)


def test_steps_learn_from_unequal_rewards(metrics):
    assert all(record["zero_variance_share"] < 1 for record in metrics)
    assert all(record["grad_norm"] > 0 for record in metrics)
    assert all(record["trained_tokens"] > 0 for record in metrics)


def test_versions_increase_by_one(metrics):
    assert [record["adapter_version"] for record in metrics] == [1, 2, 3]


def test_engine_and_learner_agree_on_the_tokens(metrics):
    # A wrong or missing adapter shows as a mismatch an order of magnitude above the noise of bfloat16.
    assert all(0 < record["logprob_mismatch_mean"] < 0.1 for record in metrics)


def test_the_canary_saw_every_version_act(metrics):
    assert all(0 <= record["sync_canary_kl"] < 0.1 for record in metrics)
    assert all(record["sync_export_s"] > 0 and record["sync_install_s"] > 0 for record in metrics)


def test_sixteen_candidates_a_group(rollouts):
    sizes = rollouts.execute("SELECT COUNT(*) FROM rollouts GROUP BY step, question_id").fetchall()
    assert [tuple(size) for size in sizes] == [(16,)] * 6


def test_rollouts_of_a_step_carry_the_version_before(rollouts):
    rows = rollouts.execute("SELECT DISTINCT step, adapter_version, newest_adapter_version FROM rollouts ORDER BY step")
    assert [tuple(row) for row in rows] == [(1, 0, 0), (2, 1, 1), (3, 2, 2)]


def test_rewards_follow_outcomes(rollouts):
    rows = {tuple(row) for row in rollouts.execute("SELECT DISTINCT outcome, reward FROM rollouts")}
    assert rows <= {
        ("match", 1.0), ("mismatch", 0.1), ("syntax_error", 0.0), ("runtime_error", 0.0), ("rejected", 0.0),
        ("no_sql", 0.0), ("timeout", 0.0), ("too_large", 0.0),
    }  # fmt: skip
    assert len({reward for _, reward in rows}) > 1


def test_latest_adapter_loads_in_peft_and_differs_from_the_warm_start(smoke_run):
    latest = smoke_run.run_dir / "adapters" / "latest"
    base = AutoModelForCausalLM.from_pretrained(smoke_run.home / "models" / "tiny-qwen2", dtype=torch.float32)
    model = PeftModel.from_pretrained(base, latest)
    assert model.peft_config["default"].r == 16
    start = smoke_run.run_dir / "adapters" / "start"
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (start, latest))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    loaded = dict(model.named_parameters())
    name = next(name for name in after if "lora_B" in name)
    assert torch.equal(loaded[name.replace("lora_B.weight", "lora_B.default.weight")].float(), after[name].float())


def test_report_compares_before_and_after(smoke_run):
    report = json.loads((smoke_run.run_dir / "report.json").read_text())
    names = [row["name"] for row in report["rows"]]
    assert names[:2] == ["base model", "warm start"] and names[-1] == "GRPO" and names[2].startswith("warm start, T ")
    assert report["num_questions"] + report["num_left_out"] == 12
    assert "warm start" in smoke_run.output and "GRPO" in smoke_run.output


def test_resolved_configuration_is_kept(smoke_run):
    kept = load_config(smoke_run.run_dir / "config.yaml")
    assert kept.run.num_steps == 3 and kept.cluster.address == "local"
    assert yaml.safe_load((smoke_run.run_dir / "config.yaml").read_text())["rollout"]["group_size"] == 16


def test_tensorboard_files_are_there(smoke_run):
    assert list((smoke_run.run_dir / "tensorboard").glob("events.*"))


def test_absolute_paths_are_printed(smoke_run):
    assert str(smoke_run.run_dir) in smoke_run.output


def test_the_policies_of_the_table_are_saved_and_compared(smoke_run):
    folder = smoke_run.run_dir / "evaluations"
    assert {path.name for path in folder.iterdir()} == {"base_model", "start", "control", "trained"}
    done = floe("compare", str(folder / "start"), str(smoke_run.run_dir), "--json", home=smoke_run.home)
    assert done.returncode == 0, done.stderr[-4000:]
    compared = json.loads(done.stdout)
    report = json.loads((smoke_run.run_dir / "report.json").read_text())
    assert compared["num_questions"] == report["num_questions"]
    assert compared["differences"]["greedy"]["mean"] == report["differences"][-1]["greedy"]["mean"]
    control = json.loads((folder / "control" / "policy.json").read_text())
    assert control["name"] == report["rows"][-2]["name"] and control["greedy_correct"] is None
    num_answers = control["num_samples"] * len(control["question_ids"])
    assert sum(control["sample_num_correct"]) / num_answers == pytest.approx(report["rows"][-2]["sampled"]["mean"])


def test_evaluate_reads_the_adapter_saves_and_prints_json(smoke_run, tmp_path):
    shop = smoke_run.home / "demo"
    made = write_spider_layout(tmp_path / "spider", shop)
    done = floe(
        "evaluate", "--config", config("smoke.yaml"), "--adapter", str(smoke_run.run_dir / "adapters" / "latest"),
        "--data", str(made), "--limit", "4", "--samples", "3", "--json", "--out", str(tmp_path / "out"),
        "--predictions", str(tmp_path / "predictions.sql"), "cluster.address=local", home=smoke_run.home,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    assert report["overall"]["greedy"]["num_questions"] == 4
    assert report["overall"]["pass@1"]["mean"] <= report["overall"]["pass@3"]["mean"]
    saved = read_evaluation(tmp_path / "out" / "evaluation.json")
    assert len(saved.records) == 4 and saved.identity.num_samples == 3
    lines = (tmp_path / "predictions.sql").read_text().splitlines()
    assert len(lines) == 4
    assert lines == [one_line(record.greedy.sql or "") or NO_ANSWER for record in saved.records]


@pytest.mark.long
def test_a_run_ahead_of_its_updates_uses_the_versions_that_the_bound_allows(smoke_run, tmp_path):
    run_dir = tmp_path / "ahead"
    overrides = ("rollout.max_staleness=1", "evaluation.enabled=false", "cluster.address=local")
    done = floe("train", "--config", config("smoke.yaml"), "--run-dir", str(run_dir), *overrides, home=smoke_run.home)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [record["staleness"] for record in records] == [0, 1, 1]
    assert all(record["grad_norm"] > 0 and record["sync_canary_kl"] < 0.1 for record in records)
    with sqlite3.connect(run_dir / "rollouts.sqlite") as connection:
        rows = connection.execute("SELECT DISTINCT step, adapter_version FROM rollouts ORDER BY step").fetchall()
    assert rows == [(1, 0), (2, 0), (3, 1)]


def test_no_secret_of_the_environment_is_written(smoke_run):
    written = [path.read_bytes() for path in smoke_run.run_dir.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not any(SECRET.encode() in one for one in (*written, smoke_run.output.encode()))


def test_no_process_listens_beyond_the_loopback_interface(smoke_run):
    assert smoke_run.open_servers == frozenset()
