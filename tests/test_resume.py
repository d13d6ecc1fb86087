"""A run whose driver is killed in every phase of a step goes on and ends as the undisturbed run, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.command_line import REPOSITORY

pytestmark = pytest.mark.engine

NUM_STEPS = 7
KILLS = ("generating:2", "scoring:3", "learning:4", "exporting:5", "installing:6", "checkpoint:7")
OPTIONS = ("cluster.address=local", "evaluation.enabled=false", f"run.num_steps={NUM_STEPS}")
TIMED = ("_s", "_seconds")  # how a field ends that holds a time or a rate
OF_THE_MACHINE = ("reward_num_", "reward_cached", "reward_worker", "reward_queue")  # counters since a worker's start


def floe(run_dir: Path, home: Path, *arguments: str, kill: str = "") -> subprocess.Popen:
    log = (run_dir.parent / f"{run_dir.name}.log").open("a")
    return subprocess.Popen(
        [sys.executable, "-m", "tests.killed_driver", "train", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"FLOE_HOME": str(home), "FLOE_KILL": kill, "PYTHONPATH": str(REPOSITORY)},
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def started(run_dir: Path) -> tuple[str, ...]:
    return "--config", "configs/smoke.yaml", "--run-dir", str(run_dir), *OPTIONS


@pytest.fixture(scope="module")
def undisturbed(smoke_run, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    assert floe(run_dir, smoke_run.home, *started(run_dir)).wait(timeout=300) == 0
    return run_dir


@pytest.fixture(scope="module")
def killed(smoke_run, tmp_path_factory):
    """Killed once in each phase, and each time told to go on."""
    run_dir = tmp_path_factory.mktemp("killed") / "run"
    arguments = started(run_dir)
    for kill in KILLS:
        driver = floe(run_dir, smoke_run.home, *arguments, kill=kill)
        assert driver.wait(timeout=300) == -signal.SIGKILL, kill
        arguments = ("--resume", str(run_dir))
    assert floe(run_dir, smoke_run.home, *arguments).wait(timeout=300) == 0
    return run_dir


def records(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def lasting(record: dict) -> dict:
    return {
        name: value
        for name, value in record.items()
        if not name.endswith(TIMED) and not name.startswith(OF_THE_MACHINE)
    }


def test_every_step_has_a_gradient_and_the_same_metrics_to_the_bit(undisturbed, killed):
    before, after = records(undisturbed), records(killed)
    assert [record["step"] for record in after] == list(range(1, NUM_STEPS + 1))
    assert all(record["grad_norm"] > 0 for record in before)
    assert [lasting(record) for record in after] == [lasting(record) for record in before]
    assert {"loss", "grad_norm", "reward_mean", "logprob_mismatch_max", "kl"} <= lasting(before[0]).keys()


def test_every_candidate_is_there_once_and_the_same(undisturbed, killed):
    def candidates(run_dir: Path) -> list[tuple]:
        with sqlite3.connect(run_dir / "rollouts.sqlite") as connection:
            return connection.execute(
                "SELECT step, question_id, sample_index, completion, sql, reward, outcome, adapter_version, num_tokens "
                "FROM rollouts ORDER BY step, group_index, sample_index"
            ).fetchall()

    assert candidates(killed) == candidates(undisturbed)
    assert len(candidates(killed)) == NUM_STEPS * 2 * 16


@pytest.mark.parametrize("adapter", ["start", "latest"])
def test_the_adapters_are_the_same(undisturbed, killed, adapter):
    one, other = (
        (run_dir / "adapters" / adapter / "adapter_model.safetensors").read_bytes() for run_dir in (undisturbed, killed)
    )
    assert one == other


def test_no_half_checkpoint_and_no_process_is_left(killed):
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == ["step-000006", "step-000007"]
    ours = [one for one in psutil.process_iter(["cmdline"]) if str(killed) in " ".join(one.info["cmdline"] or ())]
    assert ours == []


def test_a_finished_run_that_goes_on_has_nothing_to_do(killed, smoke_run):
    before = (killed / "metrics.jsonl").read_bytes()
    assert floe(killed, smoke_run.home, "--resume", str(killed)).wait(timeout=300) == 0
    assert (killed / "metrics.jsonl").read_bytes() == before


def test_ctrl_c_ends_after_the_step_with_a_checkpoint_and_no_process(smoke_run, tmp_path):
    run_dir = tmp_path / "run"
    driver = floe(run_dir, smoke_run.home, *started(run_dir)[:-1], "run.num_steps=1000")
    children = psutil.Process(driver.pid)
    deadline_s = time.monotonic() + 200
    while not (run_dir / "checkpoints" / "step-000001").is_dir():
        assert driver.poll() is None and time.monotonic() < deadline_s
        time.sleep(0.2)
    family = children.children(recursive=True)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=120) == 130
    last = records(run_dir)[-1]["step"]
    assert (run_dir / "checkpoints" / f"step-{last:06d}").is_dir()
    assert psutil.wait_procs(family, timeout=30)[1] == []
    assert "stopped after step" in (tmp_path / "run.log").read_text()
