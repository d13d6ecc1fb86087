"""GRPO learns on `configs/curve.yaml`, killed and resumed on the way, and a planted fault is noticed."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from floe.cluster.record.__main__ import DOCS
from floe.cluster.record.curve_check import CurveRange, complaints
from floe.cluster.record.learning_parts import SEEDS, mean_rewards
from floe.cluster.record.version_record import CURVE, read_records
from tests.command_line import REPOSITORY
from tests.faulty_driver import FAULTS, SHUFFLED
from tests.preloaded.python import preloaded_python

pytestmark = [pytest.mark.engine, pytest.mark.long]

KILLED_AT = "installing:8"
LIMIT_S = 1800  # of a run, on a machine that is slow and busy: what hangs is ended, nothing is measured
# Until the first record is there: the least that healthy runs of seeds 1 to 5 were seen to do, with room.
BEFORE_RECORDS = CurveRange(num_steps=16, least_rise=0.06, low=0.1, high=0.4)
AUTO, PRECISIONS = (), ("float32", "bfloat16")


def wanted() -> CurveRange:
    """Return what the newest record with curves allows."""
    records = [one for one in read_records(DOCS / "record") if CURVE in one.parts and one.parts[CURVE].is_complete]
    return records[-1].curve_range() if records else BEFORE_RECORDS


def of_precision(dtype: str) -> tuple[str, ...]:
    return f"model.dtype={dtype}", f"rollout.dtype={dtype}"


def run(driver: str, home: Path, run_dir: Path, *arguments: str, **variables: str) -> int:
    log = (run_dir.parent / f"{run_dir.name}.log").open("a")
    environment = os.environ | {"FLOE_HOME": str(home), "PYTHONPATH": str(REPOSITORY)} | variables
    command = [preloaded_python(), "-m", f"tests.{driver}", "train", *arguments]
    with log:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            return process.wait(timeout=LIMIT_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def started(run_dir: Path, seed: int, overrides: tuple[str, ...]) -> tuple[str, ...]:
    options = ("cluster.address=local", f"run.seed={seed}", *overrides)
    return "--config", "configs/curve.yaml", "--run-dir", str(run_dir), *options


def healthy(home: Path, run_dir: Path, seed: int, overrides: tuple[str, ...], kill: str = "") -> tuple[float, ...]:
    """Train the curve; with `kill` the driver dies there, and the run is resumed."""
    code = run("killed_driver", home, run_dir, *started(run_dir, seed, overrides), FLOE_KILL=kill)
    if kill:
        assert code == -signal.SIGKILL
        code = run("killed_driver", home, run_dir, "--resume", str(run_dir))
    assert code == 0, run_dir.with_name(f"{run_dir.name}.log").read_text()[-4000:]
    return mean_rewards(run_dir)


def faulty(home: Path, run_dir: Path, fault: str, seed: int, overrides: tuple[str, ...]) -> tuple[float, ...]:
    code = run("faulty_driver", home, run_dir, *started(run_dir, seed, overrides), FLOE_FAULT=fault)
    assert code == 0, run_dir.with_name(f"{run_dir.name}.log").read_text()[-4000:]
    return mean_rewards(run_dir)


def test_a_run_that_is_killed_and_resumed_rises_as_the_record_says(other_home, tmp_path):
    assert complaints(healthy(other_home, tmp_path / "run", 1, AUTO, KILLED_AT), wanted()) == []


def test_shuffled_rewards_are_noticed(other_home, tmp_path):
    assert complaints(faulty(other_home, tmp_path / "run", SHUFFLED, 1, AUTO), wanted())


@pytest.mark.soak
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_seed_rises_in_both_precisions(other_home, tmp_path, seed, precision):
    assert complaints(healthy(other_home, tmp_path / "run", seed, of_precision(precision)), wanted()) == []


@pytest.mark.soak
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_fault_is_noticed_in_both_precisions_and_every_seed(other_home, tmp_path, seed, fault, precision):
    assert complaints(faulty(other_home, tmp_path / "run", fault, seed, of_precision(precision)), wanted())


@pytest.mark.soak
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_resume_changes_no_reward(other_home, tmp_path, precision):
    overrides = of_precision(precision)
    whole = healthy(other_home, tmp_path / "whole", 1, overrides)
    assert healthy(other_home, tmp_path / "killed", 1, overrides, KILLED_AT) == whole
