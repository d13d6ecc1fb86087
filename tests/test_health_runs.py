"""Real runs that are made to collapse: each is found with its cause, and one that goes back learns on from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from floe.cluster.checkpoints.state import RunState
from floe.cluster.soak.run_records import difference
from tests.command_line import REPOSITORY
from tests.test_resume import LIMIT_S, floe, records

pytestmark = [pytest.mark.engine, pytest.mark.long]

SMOKE = ["--config", str(REPOSITORY / "configs" / "smoke.yaml")]
SHORT = ["cluster.address=local", "evaluation.enabled=false", "model.dtype=float32", "rollout.dtype=float32"]
# A learning rate 200 times the configuration's; the KL divergence is found first, after three steps.
TOO_FAST = ["learner.learning_rate=0.2", "learner.warmup_share=0", "health.window_steps=3", "health.action=roll_back"]
# With groups of an older policy the limits of a single step would stop such a run first.
AHEAD = [
    "rollout.max_staleness=1", "health.mismatch_stop_nats=1000", "health.largest_mismatch_stop_nats=1000",
    "health.sample_size_stop_share=0",
]  # fmt: skip
LEARNS_FAST = ["learner.learning_rate=0.005", "rollout.questions_per_step=4", "health.window_steps=4"]
LENIENT = "def pays_for_running(group):\n    return [float(one.outcome.executes) for one in group.candidates]\n"
COMPARATOR = "reward_service/comparison/comparison.py"


def findings(run_dir: Path) -> list[tuple[int, str, str]]:
    return [
        (record["step"], one["detector"], one["action"])
        for record in records(run_dir)
        for one in record.get("health_findings", [])
    ]


def state_of(run_dir: Path, step: int) -> RunState:
    return RunState.from_json((run_dir / "checkpoints" / f"step-{step:06d}" / "state.json").read_bytes())


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


def test_a_rate_far_too_high_goes_back_and_later_steps_learn_from_the_restored_policy_alone(other_home, tmp_path):
    run_dir = tmp_path / "run"
    options = [*SMOKE, "--run-dir", str(run_dir), *SHORT, *TOO_FAST, *AHEAD, "run.num_steps=6"]
    assert floe(run_dir, other_home, *options).wait(timeout=LIMIT_S) == 0, (tmp_path / "run.log").read_text()[-3000:]
    found = records(run_dir)
    assert [one["step"] for one in found] == [1, 2, 3, 5, 6]  # the roll-back took the place of step 4
    assert (3, "kl_rising", "roll_back") in findings(run_dir)
    assert found[2]["kl"] > 1
    assert found[3]["kl"] == 0  # version 4 is the reference again, to the bit
    assert [one["staleness"] for one in found[3:]] == [0, 1]  # no group of versions 1 to 3
    assert found[3]["learning_rate"] < 0.6 * found[2]["learning_rate"]
    state = state_of(run_dir, 6)
    assert state.health is not None
    assert (state.health.num_roll_backs, state.health.rate_factor, state.health.oldest_version) == (1, 0.5, 4)
    said = " ".join((tmp_path / "run.log").read_text().split())
    assert "roll-back 1 in place of step 4: version 4 is version 0 again" in said


@pytest.mark.soak
@pytest.mark.parametrize("more", [(), ("learner.num_ranks=2",)], ids=["one rank", "two ranks"])
def test_a_run_killed_around_its_roll_back_goes_on_to_the_same_bits(more, other_home, tmp_path):
    options = [*SMOKE, *SHORT, *TOO_FAST, *AHEAD, *more, "run.num_steps=6"]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert floe(undisturbed, other_home, *options, "--run-dir", str(undisturbed)).wait(timeout=LIMIT_S) == 0
    arguments = [*options, "--run-dir", str(killed)]
    for kill in ("checkpoint:3", "installing:4", "checkpoint:4", "learning:5", "checkpoint:6"):
        assert floe(killed, other_home, *arguments, kill=kill).wait(timeout=LIMIT_S) == -9, kill
        arguments = ["--resume", str(killed)]
    assert floe(killed, other_home, *arguments).wait(timeout=LIMIT_S) == 0
    found = difference(undisturbed, killed)
    assert (found.num_steps, found.num_lost, found.num_doubled, found.adapter) == (5, 0, 0, 0), found
    # Generation runs ahead, so what the reward workers count since the last record may be another step's.
    assert set(found.metric_names) <= {"reward_folded_scores"}, found
    assert findings(killed) == findings(undisturbed) and (3, "kl_rising", "roll_back") in findings(killed)
    assert state_of(killed, 6).health == state_of(undisturbed, 6).health


@pytest.mark.soak
def test_the_state_after_a_roll_back_at_the_end_is_that_of_the_start(other_home, tmp_path):
    run_dir = tmp_path / "run"
    options = [*SMOKE, "--run-dir", str(run_dir), *SHORT, *TOO_FAST, "run.num_steps=4"]
    assert floe(run_dir, other_home, *options).wait(timeout=LIMIT_S) == 0
    assert weights(run_dir / "adapters" / "latest") == weights(run_dir / "adapters" / "start")


@pytest.mark.soak
def test_a_rate_that_stays_too_high_ends_the_run_after_its_roll_backs(other_home, tmp_path):
    run_dir = tmp_path / "run"
    options = [*SMOKE, "--run-dir", str(run_dir), *SHORT, *TOO_FAST, "run.num_steps=14"]
    assert floe(run_dir, other_home, *options).wait(timeout=LIMIT_S) == 2
    status = json.loads((run_dir / "status.json").read_text())
    assert "the run has gone back 2 times already" in status["error"] and "health.kl_slope_nats" in status["error"]
    assert [one["step"] for one in records(run_dir)] == [1, 2, 3, 5, 6, 7, 9, 10, 11]


@pytest.mark.soak
def test_a_lenient_reward_scaled_by_the_deviation_is_found_to_teach_running_alone(other_home, tmp_path):
    (tmp_path / "lenient.py").write_text(LENIENT)
    run_dir = tmp_path / "run"
    options = [
        *SMOKE, "--run-dir", str(run_dir), *SHORT, *LEARNS_FAST, "run.num_steps=40", "algorithm.advantage_scale=std",
        f"run.plugin_folder={tmp_path}", "reward.design=lenient:pays_for_running",
        "health.actions={executes_not_right: stop}",
    ]  # fmt: skip
    assert floe(run_dir, other_home, *options).wait(timeout=LIMIT_S) == 2, (tmp_path / "run.log").read_text()[-3000:]
    step, detector, action = findings(run_dir)[-1]
    assert (detector, action) == ("executes_not_right", "stop") and step < 40
    found = records(run_dir)
    assert found[-1]["executes_share"] > found[0]["executes_share"] and found[-1]["correct_share"] < 0.1
    assert (
        "the policy learns to run instead of to be right" in json.loads((run_dir / "status.json").read_text())["error"]
    )


@pytest.mark.soak
def test_a_comparator_that_takes_empty_results_for_right_is_found_by_what_earns_the_reward(other_home, tmp_path):
    code = planted_comparator(tmp_path / "code")
    run_dir = tmp_path / "run"
    done = own_floe(code, other_home, *SMOKE, "--run-dir", str(run_dir), *SHORT, *LEARNS_FAST, "run.num_steps=40")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    steps = [step for step, detector, _ in findings(run_dir) if detector == "empty_rewards"]
    assert steps and steps[0] < 30
    # The share of right answers does not show it: it rises, because the comparator that leaks counts them.
    found = records(run_dir)
    assert found[-1]["correct_share"] > 0.5 > found[0]["correct_share"] and found[-1]["empty_reward_share"] > 0.8


def planted_comparator(folder: Path) -> Path:
    """Copy floe's code with a comparison that calls every result without a row right."""
    folder.mkdir()
    for name in ("actors", "cluster", "configs", "learner", "reward_service", "floe"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, folder / name, symlinks=True, ignore=ignored)
    path = folder / COMPARATOR
    text, line = path.read_text(), "    too_large = None\n    for gold in golds:\n"
    assert text.count(line) == 1
    path.write_text(text.replace(line, f"    if not prediction.rows:\n        return True\n{line}"))
    return folder


def own_floe(code: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[Any]:
    """Run the floe of `code` in a process of its own."""
    environment = os.environ | {"FLOE_HOME": str(home), "PYTHONPATH": str(code)}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        [sys.executable, "-m", "floe.cluster.cli", "train", *arguments],
        cwd=code, env=environment, capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
