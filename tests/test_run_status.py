"""The status file of a run and `floe status`: at each end of a run, and for a run whose driver is gone."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from floe.cluster.operations.status import status as print_status
from floe.cluster.run_folder.status import RunState, RunStatus, as_found, describe, state_of_phase
from floe.cluster.run_folder.status_file import is_driver_alive, read_status
from floe.cluster.terminal.progress import Progress
from floe.cluster.training.run_watch import run_watch
from floe.cluster.waits import Waits
from floe.configs.errors import Interrupted, UserError
from tests.command_line import REPOSITORY, floe
from tests.step_records import step_record

DRIVER = """
import sys, time
from pathlib import Path
from floe.cluster.terminal.progress import Progress, make_console
from floe.cluster.training.run_watch import run_watch
from floe.cluster.waits import waits
progress = Progress(make_console())
with run_watch(Path(sys.argv[1]), 20, progress, period_s=0.05):
    progress.phase("GRPO")
    progress.num_steps_done = 6
    with waits.on("driver", "the next group of rollout actor 0", 900):
        time.sleep(0.3)
        print("ready", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def progress() -> Progress:
    return Progress(Console(file=io.StringIO(), width=200))


def test_a_status_survives_its_file(tmp_path, progress):
    with run_watch(tmp_path, 20, progress):
        written = read_status(tmp_path)
    assert RunStatus.from_json(written.to_json()) == written
    assert (written.pid, written.num_steps, written.state) == (os.getpid(), 20, RunState.STARTING)
    assert is_driver_alive(written)


def test_the_file_follows_phases_steps_and_waits(tmp_path, progress):
    register = Waits()

    def settled(expected: RunState) -> RunStatus:
        deadline_s = time.monotonic() + 300
        while (found := read_status(tmp_path)).state is not expected and time.monotonic() < deadline_s:
            time.sleep(0.01)
        return found

    with run_watch(tmp_path, 2, progress, register, period_s=0.01):
        progress.phase("warm start")
        assert settled(RunState.WARM_START).step == 0
        with register.on("learner", "the groups of step 1", 900):
            progress.phase("GRPO")
            found = settled(RunState.TRAINING)
            (wait,) = found.waits
            assert (found.step, wait.owner, wait.what, wait.limit_s) == (1, "learner", "the groups of step 1", 900)
            assert abs(time.time() - wait.since) < 30
        progress.step(step_record(1), 2)
        progress.step(step_record(2), 2)
        progress.phase("evaluation after")
        assert settled(RunState.EVALUATING).step == 2
    done = read_status(tmp_path)
    assert (done.state, done.waits, done.error) == (RunState.FINISHED, (), "")
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]


@pytest.mark.parametrize(
    ("fault", "state", "error"),
    [
        (UserError("Free some memory."), RunState.FAILED, "Free some memory."),
        (RuntimeError("first line\nlast line"), RunState.FAILED, "RuntimeError: last line"),
        (KeyboardInterrupt(), RunState.INTERRUPTED, ""),
        (Interrupted("stopped after step 2"), RunState.INTERRUPTED, ""),
        (SystemExit(15), RunState.INTERRUPTED, ""),  # what Ray makes of a SIGTERM
        (SystemExit(1), RunState.FAILED, "SystemExit: 1"),
    ],
)
def test_how_a_run_ended_is_kept(tmp_path, progress, fault, state, error):
    with pytest.raises(type(fault)), run_watch(tmp_path, 20, progress):
        raise fault
    found = read_status(tmp_path)
    assert (found.state, found.error) == (state, error)
    assert as_found(found, is_driver_alive=False) == found


def test_waits_of_minutes_are_said_in_the_log(tmp_path, progress):
    clock_s = [0.0]
    register = Waits(lambda: clock_s[0])
    with register.on("learner", "the groups of step 1", 900), run_watch(tmp_path, 2, progress, register, 0.01):
        clock_s[0] = 130.0
        deadline_s = time.monotonic() + 300
        while not progress.console.file.getvalue() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        time.sleep(0.05)
    lines = progress.console.file.getvalue().splitlines()
    assert lines == ["  learner has waited 2 min for the groups of step 1 (limit 15 min)"]


def test_a_run_that_can_not_write_its_status_goes_on_and_says_so_once(tmp_path, progress):
    gone = tmp_path / "gone"
    with run_watch(gone, 2, progress, period_s=0.01):
        time.sleep(0.1)
    assert progress.console.file.getvalue().count("status file can't be written") == 1


@pytest.mark.heavy
def test_the_status_of_a_killed_driver_names_step_wait_and_remedy(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)], stdout=subprocess.PIPE, env=environment, text=True
    )
    try:
        assert driver.stdout is not None
        while driver.stdout.readline().strip() != "ready":
            assert driver.poll() is None
        written = read_status(tmp_path)
        assert is_driver_alive(written)
        (first, second) = describe(written, tmp_path, written.updated, True)
        assert first.startswith("training, step 7 of 20;") and f"process {driver.pid} " in first
        assert second.startswith("  driver has waited 0 s for the next group of rollout actor 0 (limit 15 min)")
        driver.send_signal(signal.SIGKILL)
    finally:
        driver.kill()
        driver.wait()
    done = floe("status", str(tmp_path), home=tmp_path)
    assert done.returncode == 0
    assert done.stdout == (
        "died in step 7 while waiting for the next group of rollout actor 0; "
        f"go on with floe train --resume {tmp_path}\n"
    )


def test_json_is_the_file_with_what_was_found(tmp_path, progress, capsys):
    with run_watch(tmp_path, 20, progress):
        before = read_status(tmp_path)
    path = tmp_path / "status.json"
    path.write_text(replace(before, pid=2**22 + 1, state=RunState.TRAINING).to_json())
    print_status(tmp_path, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert (printed["state"], printed["is_driver_alive"], printed["num_steps"]) == ("died", False, 20)


def test_another_process_of_the_same_number_is_not_the_driver(tmp_path, progress):
    with run_watch(tmp_path, 20, progress):
        found = read_status(tmp_path)
    assert is_driver_alive(replace(found, started=psutil.Process().create_time() - 60)) is False
    assert is_driver_alive(replace(found, host="elsewhere")) is None


def test_a_folder_without_a_run_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="There is no run in"):
        print_status(tmp_path, as_json=False)
    (tmp_path / "status.json").write_text('{"state": "training"}')
    with pytest.raises(UserError, match=r"status\.json can't be read"):
        print_status(tmp_path, as_json=False)


@pytest.mark.parametrize(
    ("state", "phase", "text"),
    [
        (RunState.FINISHED, "evaluation after", "finished after 7 steps"),  # of 20: its tokens were spent
        (RunState.FAILED, "GRPO", "failed in step 7: disk full; when that is fixed, go on with"),
        (RunState.INTERRUPTED, "evaluation before", "interrupted in 'evaluation before'; go on with"),
        (RunState.WARM_START, "warm start", "warm start: warm start; driver is process 5 on here"),
    ],
)
def test_headlines(state, phase, text):
    status = RunStatus(
        state=state, phase=phase, step=7, num_steps=20, waits=(), pid=5, started=1.0, host="here", updated=2.0,
        error="disk full.",
    )  # fmt: skip
    assert describe(status, Path("/run"), 3.0, True)[0].startswith(text)


def test_every_phase_has_its_state():
    phases = ("", "set-up", "warm start", "start of the actors", "evaluation before", "GRPO", "evaluation after")
    assert [state_of_phase(phase).value for phase in phases] == [
        "starting", "starting", "warm start", "starting", "evaluating", "training", "evaluating",
    ]  # fmt: skip
