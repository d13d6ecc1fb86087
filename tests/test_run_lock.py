"""One driver at a time on a run's folder: a second one is refused and leaves the first one's status as it is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from floe.cluster.operations import train as operation
from floe.cluster.run_folder.layout import config_of_run
from floe.cluster.run_folder.lock import run_lock
from floe.cluster.run_folder.status import RunState
from floe.configs.errors import UserError
from tests.command_line import REPOSITORY
from tests.run_folders import run_folder, write_status

HOLDER = """
import sys, time
from pathlib import Path
from floe.cluster.run_folder.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds the folder, without having written a status."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLDER, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "holds\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_of_two_is_refused_until_the_first_is_gone_however_it_ends(tmp_path, holder):
    with pytest.raises(UserError, match="is still at work in another process"), run_lock(tmp_path):
        raise AssertionError
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with run_lock(tmp_path):
        pass
    with run_lock(tmp_path):
        pass


@pytest.mark.parametrize("act", [operation.resume, operation.train])
def test_a_run_that_lives_keeps_its_status(tmp_path, act):
    run_dir = run_folder(tmp_path / "run")
    driver = psutil.Process(os.getppid())  # some process that lives
    write_status(run_dir, RunState.TRAINING, 2, pid=driver.pid, started=driver.create_time(), host=socket.gethostname())
    before, configuration = (run_dir / "status.json").read_bytes(), (run_dir / "config.yaml").read_bytes()
    with pytest.raises(UserError, match=f"still at work in process {driver.pid} on "):
        act(config_of_run(run_dir, ["run.num_steps=7"]), run_dir)
    assert (run_dir / "status.json").read_bytes() == before
    assert (run_dir / "config.yaml").read_bytes() == configuration


@pytest.mark.parametrize(
    "changes",
    [
        {"state": RunState.FINISHED},  # its process has its exit before it
        {"started": 1.0},  # another process has the number now
        {"host": "elsewhere"},
    ],
)
def test_a_run_that_has_ended_or_can_not_be_seen_from_here_is_free(tmp_path, changes):
    driver = psutil.Process(os.getppid())
    living = {"pid": driver.pid, "started": driver.create_time(), "host": socket.gethostname()} | changes
    write_status(tmp_path, living.pop("state", RunState.TRAINING), 2, **living)
    with run_lock(tmp_path):
        pass


def test_a_folder_that_can_not_be_locked_is_said(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="Can't lock the run folder"), run_lock(tmp_path / "file"):
        raise AssertionError
