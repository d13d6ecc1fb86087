"""`ray start --head`, then `ray job submit`: the run ends SUCCEEDED and its files outlive the job."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.command_line import REPOSITORY

pytestmark = pytest.mark.engine

RAY = str(Path(sys.executable).parent / "ray")
START_LIMIT_S = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory, smoke_run):
    """An own head node, ended by its process group."""
    port = free_port()
    head = subprocess.Popen(
        [
            RAY, "start", "--head", "--block", f"--port={free_port()}", f"--dashboard-port={port}",
            "--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1", "--include-dashboard=true",
            f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}",
            f"--temp-dir={tmp_path_factory.mktemp('r')}", "--object-store-memory=500000000", "--disable-usage-stats",
        ],
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not answers(f"{address}/api/version"):
            assert head.poll() is None, head.stdout.read()
            assert time.monotonic() < deadline, "the dashboard did not answer"
            time.sleep(1)
        yield address
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        try:
            head.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    """Whether the dashboard is up; asked without Ray's token it answers 401."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False


def actor_names(address: str) -> set[str]:
    """Names of all actors, dead ones included, as the dashboard lists them."""
    shown = subprocess.run(
        [RAY, "list", "actors", "--address", address, "--format", "json", "--limit", "1000"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    return {actor["name"] for actor in json.loads(shown)}


def test_submitted_job_succeeds_and_leaves_its_run(dashboard, home, tmp_path):
    """The job's working directory is a copy of a clone; the run folder must not be inside it."""
    work = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(work)], check=True)
    floe = str(Path(sys.executable).parent / "floe")
    done = subprocess.run(
        [
            RAY, "job", "submit", f"--address={dashboard}", "--working-dir", str(work), "--",
            floe, "train", "--config", "configs/smoke.yaml", f"run.home={home}", "run.num_steps=1",
            "evaluation.enabled=false",
        ],
        capture_output=True, text=True, timeout=600, cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": dashboard},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "succeeded" in done.stdout.lower()
    assert "joined the Ray cluster" in done.stdout
    run_dir = Path(re.search(r"files of the run: (\S+)", done.stdout).group(1))
    assert run_dir.is_absolute() and home in run_dir.parents
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 1
    assert {"rollout-0", "reward-0", "reward-1", "learner"} <= actor_names(dashboard)
