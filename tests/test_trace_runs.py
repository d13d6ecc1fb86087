"""Runs that learn from traces: given, judged by real workers, learned, drawn again after a resume, to the same bits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from floe.actors.prompting.prompts import STYLES
from floe.actors.questions.question_sets import load_question_sets
from floe.configs.schema import DataSection
from tests.command_line import config, floe

pytestmark = [pytest.mark.engine, pytest.mark.long]

RUN = (
    "cluster.address=local", "prompt.style=tagged", "model.max_context_tokens=512", "rollout.max_new_tokens=100",
    "data.max_train_questions=24", "rollout.group_size=4", "warm_start.source=traces", "warm_start.batch_questions=4",
    "warm_start.max_answer_tokens=600", "algorithm.supervised_coefficient=0.5", "algorithm.supervised_questions=3",
    "algorithm.supervised_source=traces", "evaluation.enabled=false", "run.checkpoint_every_steps=1",
)  # fmt: skip
EXACT = ("loss", "grad_norm", "supervised_loss", "reward_mean", "trained_tokens")


def given_traces(folder: Path) -> Path:
    """Write right answers to demo questions with a wrong one, a constant one and one without a thought among them."""
    questions = load_question_sets(DataSection(source="demo", max_train_questions=24), folder / "demo").train
    style, lines = STYLES["tagged"], []
    for number, one in enumerate(questions):
        answers = {
            0: style.answer("SELECT 1", "right, says the file"),
            1: style.answer(one.gold_sql[0], ""),
        }
        text = answers.get(number, style.answer(one.gold_sql[0], f"I read question {number}"))
        lines.append(json.dumps({"question_id": one.question_id, "completion": text, "outcome": "match"}))
    path = folder / "given.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def records(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def weights(run_dir: Path) -> bytes:
    return (run_dir / "adapters" / "latest" / "adapter_model.safetensors").read_bytes()


def test_given_traces_are_judged_learned_and_drawn_again_after_a_resume(home, tmp_path):
    path = given_traces(tmp_path)
    run_dir, whole = tmp_path / "run", tmp_path / "whole"
    overrides = (*RUN, f"warm_start.traces={path}")
    done = floe("train", "--config", config("smoke.yaml"), "--run-dir", str(run_dir), *overrides, "run.num_steps=1",
                home=home)  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    said = " ".join(done.stdout.split())
    assert "traces of train: 24 answers, 23 right, 22 kept, of 22 of 24 questions" in said
    assert "dropped of train: wrong 1, no thought 1" in said
    table = json.loads((run_dir / "traces.json").read_text())
    assert table["train"]["num_kept"] == 22 == len((run_dir / "traces.jsonl").read_text().splitlines())
    path.unlink()  # a run that has begun needs it no more
    again = floe("train", "--resume", str(run_dir), "run.num_steps=2", home=home)
    assert again.returncode == 0, again.stdout[-4000:] + again.stderr[-4000:]
    given_traces(tmp_path)
    straight = floe("train", "--config", config("smoke.yaml"), "--run-dir", str(whole), *overrides, "run.num_steps=2",
                    home=home)  # fmt: skip
    assert straight.returncode == 0, straight.stdout[-4000:] + straight.stderr[-4000:]
    assert "taken from" in straight.stdout  # the warm start, made once
    resumed, expected = records(run_dir), records(whole)
    assert [record["step"] for record in resumed] == [1, 2]
    assert resumed[0]["supervised_loss"] > 0
    assert [[record[name] for name in EXACT] for record in resumed[1:]] == [
        [record[name] for name in EXACT] for record in expected[1:]
    ]
    assert weights(run_dir) == weights(whole)


def test_an_untrained_policy_has_no_right_answer_to_sample(home, tmp_path):
    done = floe("train", "--config", config("smoke.yaml"), "--run-dir", str(tmp_path / "run"), *RUN, "run.num_steps=1",
                "warm_start.trace_samples=2", "data.max_train_questions=4", home=home)  # fmt: skip
    assert done.returncode == 2, done.stdout[-4000:] + done.stderr[-4000:]
    said = " ".join((done.stdout + done.stderr).split())
    assert "No trace is left of 8 answers" in said and "start from a policy that answers some questions right" in said
    assert "Traceback" not in said
