"""A real run over two tiny prepared folders: both are asked, judged and evaluated."""

from __future__ import annotations

import json
import sqlite3

import pytest

from tests.mixtures import source_folder
from tests.test_resume import LIMIT_S, floe, records

pytestmark = [pytest.mark.engine, pytest.mark.long]


def test_two_steps_over_two_folders_ask_both_and_evaluate_both(other_home, tmp_path):
    for name in ("a", "b"):
        source_folder(tmp_path / name, 4)
    run_dir = tmp_path / "run"
    sources = f"[{{path: {tmp_path / 'a'}}}, {{path: {tmp_path / 'b'}, semantics: spider}}]"
    options = [
        "--config", "configs/smoke.yaml", "--run-dir", str(run_dir), "cluster.address=local", "run.num_steps=2",
        "data.source=mixed", f"data.sources={sources}", "warm_start.enabled=false", "evaluation.num_samples=2",
        "evaluation.max_questions=2",
        "model.dtype=float32", "rollout.dtype=float32",
    ]  # fmt: skip
    assert floe(run_dir, other_home, *options).wait(timeout=LIMIT_S) == 0, (tmp_path / "run.log").read_text()[-3000:]
    assert len(records(run_dir)) == 2
    log = sqlite3.connect(run_dir / "rollouts.sqlite")
    rows = log.execute("SELECT DISTINCT step, question_id FROM rollouts ORDER BY step, question_id").fetchall()
    log.close()
    assert [(step, name.partition(":")[0]) for step, name in rows] == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]
    evaluated = json.loads((run_dir / "evaluations" / "base_model" / "evaluation.json").read_text())
    assert sorted(one["question_id"].partition(":")[0] for one in evaluated["records"]) == ["a", "b"]
