"""A run whose driver is killed in every phase of a step continues and ends as the undisturbed run, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from ray._private import ray_constants
from ray.cluster_utils import Cluster

from floe.cluster.soak.killer import kill_one
from floe.cluster.soak.run_records import difference
from tests.command_line import REPOSITORY
from tests.preloaded.python import preloaded_python
from tests.ray_processes import Root, descendants

pytestmark = pytest.mark.engine

# What a killed driver leaves differs before the update, between update and checkpoint, and within the checkpoint: `make
# ci` has one kill of each kind, `make soak` all phases.
KILLS = ("scoring:2", "installing:3", "checkpoint:4")
if os.environ.get("FLOE_SOAK"):
    KILLS = ("generating:2", "scoring:3", "learning:4", "exporting:5", "installing:6", "checkpoint:7")
DYING = ("executor child", "reward worker", "rollout actor")
if os.environ.get("FLOE_SOAK"):
    DYING = (*DYING, "learner")  # in CI it dies with its node
# Signals of a scheduler: the step ends within the limit, or is left. `make soak` has more phases.
TERMINATIONS = (("starting:0", 600.0), ("generating:2", 600.0), ("learning:3", 0.01), ("checkpoint:4", 600.0))
if os.environ.get("FLOE_SOAK"):
    TERMINATIONS = tuple((kill, (600.0, 0.01)[number % 2]) for number, kill in enumerate(KILLS))
NUM_STEPS = max(5, len(KILLS) + 1)
LIMIT_S = 1800  # of a run, on a machine that is slow and busy: what hangs is ended, nothing is measured
# The two precisions are fixed: decided by a measurement, those of two runs on a busy machine may differ.
OPTIONS = (
    "cluster.address=local", "evaluation.enabled=false", f"run.num_steps={NUM_STEPS}", "model.dtype=float32",
    "rollout.dtype=float32",
)  # fmt: skip


def floe(
    run_dir: Path, home: Path, *arguments: str, kill: str = "", by: signal.Signals = signal.SIGKILL
) -> subprocess.Popen:
    log = (run_dir.parent / f"{run_dir.name}.log").open("a")
    return subprocess.Popen(
        [preloaded_python(), "-m", "tests.killed_driver", "train", *arguments],
        cwd=REPOSITORY,
        env=os.environ
        | {"FLOE_HOME": str(home), "FLOE_KILL": kill, "FLOE_KILL_SIGNAL": by.name, "PYTHONPATH": str(REPOSITORY)},
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def started(run_dir: Path) -> tuple[str, ...]:
    return "--config", "configs/smoke.yaml", "--run-dir", str(run_dir), *OPTIONS


@pytest.fixture(scope="module")
def undisturbed(other_home, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    assert floe(run_dir, other_home, *started(run_dir)).wait(timeout=LIMIT_S) == 0
    return run_dir


@pytest.fixture(scope="module")
def killed(other_home, tmp_path_factory):
    """Kill the run once in each of the phases, and continue it each time."""
    run_dir = tmp_path_factory.mktemp("killed") / "run"
    arguments = started(run_dir)
    for kill in KILLS:
        driver = floe(run_dir, other_home, *arguments, kill=kill)
        assert driver.wait(timeout=LIMIT_S) == -signal.SIGKILL, kill
        arguments = ("--resume", str(run_dir))
    assert floe(run_dir, other_home, *arguments).wait(timeout=LIMIT_S) == 0
    return run_dir


def records(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.long
def test_every_step_has_a_gradient_and_the_same_metrics_to_the_bit(undisturbed, killed):
    before, after = records(undisturbed), records(killed)
    assert [record["step"] for record in after] == list(range(1, NUM_STEPS + 1))
    assert all(record["grad_norm"] > 0 for record in before)
    for name in ("loss", "grad_norm", "reward_mean", "logprob_mismatch_max", "kl"):
        assert [record[name] for record in after] == [record[name] for record in before]
    assert difference(undisturbed, killed).num_metrics == 0


@pytest.mark.long
def test_every_candidate_is_there_once_and_the_same(undisturbed, killed):
    found = difference(undisturbed, killed)
    assert (found.num_lost, found.num_doubled, found.num_questions) == (0, 0, NUM_STEPS * 2)


@pytest.mark.long
@pytest.mark.parametrize("adapter", ["start", "latest"])
def test_the_adapters_are_the_same(undisturbed, killed, adapter):
    one, other = (
        (run_dir / "adapters" / adapter / "adapter_model.safetensors").read_bytes() for run_dir in (undisturbed, killed)
    )
    assert one == other


@pytest.mark.long
def test_no_half_checkpoint_and_no_process_is_left(killed):
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == [
        f"step-{step:06d}" for step in (NUM_STEPS - 1, NUM_STEPS)
    ]
    ours = [one for one in psutil.process_iter(["cmdline"]) if str(killed) in " ".join(one.info["cmdline"] or ())]
    assert ours == []


@pytest.mark.long
def test_sigterm_in_each_phase_is_an_interruption_that_changes_nothing(undisturbed, other_home, tmp_path):
    run_dir = tmp_path / "run"
    arguments = started(run_dir)
    for kill, limit_s in TERMINATIONS:
        driver = floe(run_dir, other_home, *arguments, f"run.stop_within_s={limit_s}", kill=kill, by=signal.SIGTERM)
        assert driver.wait(timeout=LIMIT_S) == 130, kill
        assert json.loads((run_dir / "status.json").read_text())["state"] == "interrupted"
        assert not (run_dir / "failure.log").exists()
        assert [
            one for one in psutil.process_iter(["cmdline"]) if str(run_dir) in " ".join(one.info["cmdline"] or ())
        ] == []
        arguments = ("--resume", str(run_dir))
    assert floe(run_dir, other_home, *arguments).wait(timeout=LIMIT_S) == 0
    assert difference(undisturbed, run_dir).is_none
    assert "Traceback" not in (tmp_path / "run.log").read_text()


@pytest.mark.long
def test_a_finished_run_that_goes_on_has_nothing_to_do(killed, other_home):
    before = (killed / "metrics.jsonl").read_bytes()
    assert floe(killed, other_home, "--resume", str(killed)).wait(timeout=LIMIT_S) == 0
    assert (killed / "metrics.jsonl").read_bytes() == before
    assert "nothing is left to do" in (killed.parent / f"{killed.name}.log").read_text()


@pytest.mark.long
def test_processes_that_die_within_a_run_change_nothing_but_its_timing(undisturbed, other_home, tmp_path):
    run_dir = tmp_path / "run"
    driver = floe(run_dir, other_home, *started(run_dir))
    for step, kind in enumerate(DYING, start=1):
        wait_for(run_dir / "checkpoints" / f"step-{step:06d}", driver)
        assert kill_one(Root(driver.pid), kind, random.Random(step)), kind
    assert driver.wait(timeout=LIMIT_S) == 0
    assert difference(undisturbed, run_dir).is_none
    log = (tmp_path / "run.log").read_text()
    assert "learner" not in DYING or ("the learner died" in log and "goes on after step" in log)


@pytest.fixture
def two_nodes(other_home):
    """Start a head without room for actors and two nodes that each have room for all; return address and raylets."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=2, include_dashboard=False) for _ in range(2)]
        cluster.wait_for_nodes()
        yield cluster.address, [psutil.Process(raylet_pid(node)) for node in nodes]
    finally:
        cluster.shutdown()


def raylet_pid(node) -> int:
    return node.all_processes[ray_constants.PROCESS_TYPE_RAYLET][0].process.pid


@pytest.mark.long
def test_a_node_that_dies_changes_nothing_but_the_runs_timing(undisturbed, other_home, two_nodes, tmp_path):
    address, raylets = two_nodes
    run_dir = tmp_path / "run"
    driver = floe(run_dir, other_home, *started(run_dir), f"cluster.address={address}")
    wait_for(run_dir / "checkpoints" / "step-000002", driver)
    families = [descendants(raylet) for raylet in raylets]
    (lost,) = [number for number, family in enumerate(families) if any(is_learner(one) for one in family)]
    for process in (raylets[lost], *families[lost]):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert driver.wait(timeout=LIMIT_S) == 0
    assert difference(undisturbed, run_dir).is_none
    assert "goes on after step" in (tmp_path / "run.log").read_text()


def is_learner(process: psutil.Process) -> bool:
    return process.name().startswith("ray::LearnerAct")


def wait_for(folder: Path, driver: subprocess.Popen) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not folder.is_dir():
        assert driver.poll() is None and time.monotonic() < deadline_s
        time.sleep(0.02)


def test_ctrl_c_ends_after_the_step_with_a_checkpoint_and_no_process(other_home, tmp_path):
    run_dir = tmp_path / "run"
    driver = floe(run_dir, other_home, *started(run_dir)[:-1], "run.num_steps=1000", "warm_start.enabled=false")
    wait_for(run_dir / "checkpoints" / "step-000001", driver)
    family = Root(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=LIMIT_S) == 130
    last = records(run_dir)[-1]["step"]
    assert (run_dir / "checkpoints" / f"step-{last:06d}").is_dir()
    assert psutil.wait_procs(family, timeout=LIMIT_S)[1] == []
    assert "stopped after step" in (tmp_path / "run.log").read_text()
