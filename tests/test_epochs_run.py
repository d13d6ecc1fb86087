"""A real run by epochs and with dropout, whole and broken off: each question once an epoch, the same to the bit."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections import Counter

import pytest

from floe.cluster.bench.learner.dropout_bench import bench_dropout
from floe.cluster.soak.run_records import difference
from floe.cluster.time_plan.plan_files import read_plan
from tests.test_resume import LIMIT_S, floe, records, started

pytestmark = [pytest.mark.engine, pytest.mark.long]

BY_EPOCHS = (
    "run.num_epochs=2", "data.max_train_questions=3", "learner.warmup_share=0", "learner.min_learning_rate_share=0",
    "lora.dropout=0.1",
)  # fmt: skip


def asked(run_dir) -> list[tuple[int, str]]:
    log = sqlite3.connect(run_dir / "rollouts.sqlite")
    try:
        return log.execute("SELECT DISTINCT step, question_id FROM rollouts ORDER BY step").fetchall()
    finally:
        log.close()


def test_a_run_by_epochs_asks_every_question_once_an_epoch_and_goes_on_with_the_same_masks(
    other_home, tmp_path, capsys
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = [one for one in started(whole) if not one.startswith("run.num_steps")]
    assert floe(whole, other_home, *options, *BY_EPOCHS).wait(timeout=LIMIT_S) == 0
    of_epochs = [Counter(name for step, name in asked(whole) if step in steps) for steps in ((1, 2), (3, 4))]
    assert of_epochs[0] == of_epochs[1] and set(of_epochs[0].values()) == {1} and len(of_epochs[0]) == 3
    rates = [record["learning_rate"] for record in records(whole)]
    assert rates == pytest.approx([1e-3 * share for share in (1, 0.853553, 0.5, 0.146447)], rel=1e-5)
    assert json.loads((whole / "status.json").read_text())["num_steps"] == read_plan(whole).num_steps == 4
    assert "2 epochs of 3 questions: 4 steps of 1 or 2 questions" in (tmp_path / "whole.log").read_text()
    options[options.index(str(whole))] = str(broken)
    assert floe(broken, other_home, *options, *BY_EPOCHS, kill="installing:3").wait(timeout=LIMIT_S) == -signal.SIGKILL
    assert floe(broken, other_home, "--resume", str(broken)).wait(timeout=LIMIT_S) == 0
    assert difference(whole, broken).is_none
    capsys.readouterr()
    for dropout in (0.0, 0.2):
        bench_dropout(whole, dropout, 2, as_json=True)
        rows = json.loads(capsys.readouterr().out)
        assert [row["adapter"] for row in rows] == ["before GRPO", "after GRPO"]
        assert all((row["deviation"] > 0) == (row["kl"] > 0) == (dropout > 0) for row in rows), rows
