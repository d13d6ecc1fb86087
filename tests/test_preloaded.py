"""Processes forked from the server end like the processes that they replace."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.preloaded.python import preloaded_python
from tests.ray_processes import Root

LIMIT_S = 300

pytestmark = pytest.mark.heavy


@pytest.fixture(autouse=True)
def server() -> Path:
    place = Path(preloaded_python()).parent / "server"
    if not place.is_socket():
        pytest.skip("this test run forks no processes")
    return place


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([preloaded_python(), *arguments], capture_output=True, text=True, timeout=LIMIT_S)


def test_output_and_exit_code_come_through(tmp_path):
    assert (done := run("-m", "floe.cluster.cli", "version")).returncode == 0 and done.stdout.strip()
    refused = run("-m", "floe.cluster.cli", "train", "--config", str(tmp_path / "nowhere.yaml"))
    assert refused.returncode == 2 and "There is no configuration file" in refused.stderr and not refused.stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_signal_reaches_the_process_and_tells_how_it_ended(number, status, tmp_path):
    client = subprocess.Popen(
        [preloaded_python(), "-m", "floe.cluster.cli", "train-graph-reward", "--out", str(tmp_path / "network")],
        env=os.environ | {"FLOE_HOME": str(tmp_path)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline_s = time.monotonic() + LIMIT_S
    while not any(tmp_path.glob("demo*")) and client.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.02)  # from then on it would run for minutes
    family = Root(client.pid).children(recursive=True)
    client.send_signal(number)
    assert client.wait(LIMIT_S) == status
    assert psutil.wait_procs(family[:1], timeout=LIMIT_S)[1] == []


def test_a_client_that_is_killed_before_it_has_asked_takes_nobody_along(server):
    for said in (b"", (100).to_bytes(8, "little"), (100).to_bytes(8, "little") + b"{"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(server))
            if said:
                socket.send_fds(connection, [said[:8]], [os.open("/dev/null", os.O_RDWR)] * 3)
                connection.sendall(said[8:])
    assert run("-m", "floe.cluster.cli", "version").returncode == 0
