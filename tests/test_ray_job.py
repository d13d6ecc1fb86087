"""`ray start --head`, then `ray job submit`: a run that ends well, one that is stopped, and the dashboard's pages."""

import json
import os
import re
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from floe.cluster.run_folder.file_names import ROLLOUTS_FILE
from tests.browser import LOAD_LIMIT_S, headless_browser
from tests.command_line import REPOSITORY

pytestmark = [pytest.mark.engine, pytest.mark.long]

RAY = str(Path(sys.executable).parent / "ray")
START = (sys.executable, "-m", "tests.preloaded.ray_command", "start")
START_LIMIT_S = 600
STEP_LIMIT_S = 1800
JOB = "floe-test"
TOKEN = secrets.token_hex(32)
# Ray would take the user's own token for the head, but not for its clients.
ENVIRONMENT = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
# A reward of a user's own, in the folder that is sent: what it pays nobody else does.
OWN_REWARD = """
from floe.plugins import execution_reward

def doubled(group, factor=2.0):
    return [factor * execution_reward(one) + 0.25 for one in group.candidates]
"""
# A form of prompt and answer, in a package that Ray's runtime environment brings.
OWN_STYLE = """
class Plain:
    def messages(self, question, evidence, schema):
        return [{"role": "user", "content": f"{schema} {evidence} {question}"}]

    def answer(self, sql, reads):
        return sql
"""
# A module of the driver and one of a reward worker's child; the actors' own are loaded before, for the tests alone.
EDITED = ("cluster/training/attempt.py", "reward_service/sandbox/executor_child.py")
ROLES = {"rollout-0", "reward-0", "reward-1", "learner"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def head_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def dashboard(head_port, smoke_run):
    """Start a head node, ended by its process group. Paths of sockets are short, so its folder is not pytest's."""
    port = free_port()
    folder = TemporaryDirectory(prefix="ray-", dir="/tmp")
    head = subprocess.Popen(
        [
            *START, "--head", "--block", f"--port={head_port}", f"--dashboard-port={port}",
            "--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1", "--include-dashboard=true",
            f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}",
            f"--temp-dir={folder.name}", "--object-store-memory=500000000", "--disable-usage-stats",
        ],
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT,
        cwd=REPOSITORY,
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
        end_group(head)
        folder.cleanup()


@pytest.fixture(scope="module")
def second_node(dashboard, head_port):
    """Joins the head, of whose cores no actor that asks for three quarters of them leaves enough for another one."""
    node = subprocess.Popen(
        [
            *START, f"--address=127.0.0.1:{head_port}", "--block", "--node-ip-address=127.0.0.1",
            f"--dashboard-agent-listen-port={free_port()}", "--object-store-memory=300000000", "--disable-usage-stats",
        ],
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT,
        cwd=REPOSITORY,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while len(listed(dashboard, "nodes", "state=ALIVE")) < 2:
            assert node.poll() is None, node.stdout.read()
            assert time.monotonic() < deadline, "the second node did not join"
            time.sleep(1)
        yield node
    finally:
        end_group(node)


def end_group(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    """Return whether the dashboard is up; asked without Ray's token it answers 401."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False


def actors(address: str) -> list[dict]:
    """Return all actors, dead ones included, as the dashboard lists them."""
    return listed(address, "actors")


def listed(address: str, kind: str, *filters: str) -> list[dict]:
    chosen = [part for one in filters for part in ("--filter", one)]
    shown = subprocess.run(
        [RAY, "list", kind, "--address", address, "--format", "json", "--limit", "1000", "--detail", *chosen],
        capture_output=True, text=True, timeout=600, check=True, env=ENVIRONMENT,
    ).stdout  # fmt: skip
    return json.loads(shown)


def names(found: list[dict]) -> set[str]:
    return {actor["name"] for actor in found}


def test_submitted_job_succeeds_and_leaves_its_run(dashboard, home, tmp_path):
    """The job's working directory is a copy of a clone, and lines that were edited there run in driver and children.

    So does a reward of a user's own there, and a prompt style that the runtime environment brings. The run folder must
    not be inside it.
    """
    work = clone(tmp_path)
    (work / "own_reward.py").write_text(OWN_REWARD)
    for module in EDITED:
        with (work / module).open("a") as file:
            file.write(f"__import__('pathlib').Path({str(tmp_path / Path(module).stem)!r}).write_text(__file__)\n")
    (tmp_path / "own_style").mkdir()
    (tmp_path / "own_style" / "__init__.py").write_text(OWN_STYLE)
    brought = ("--runtime-env-json", json.dumps({"py_modules": [str(tmp_path / "own_style")]}))
    own = ("reward.design=own_reward:doubled", "reward.arguments.factor=4", "prompt.style=own_style:Plain")
    done = submitted(dashboard, home, tmp_path, "run.num_steps=1", *own, options=brought)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "succeeded" in done.stdout.lower()
    assert "joined the Ray cluster" in done.stdout
    run_dir = Path(re.search(r"files of the run: (\S+)", done.stdout).group(1))
    assert run_dir.is_absolute() and home in run_dir.parents
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 1
    assert names(actors(dashboard)) >= ROLES
    with closing(sqlite3.connect(run_dir / ROLLOUTS_FILE)) as log:
        rewards = {reward for (reward,) in log.execute("SELECT DISTINCT reward FROM rollouts")}
    assert rewards and rewards <= {0.25, 0.65, 4.25}
    ran = [Path((tmp_path / Path(module).stem).read_text()) for module in EDITED]
    assert all(path.as_posix().endswith(module) for path, module in zip(ran, EDITED, strict=True))
    assert not any(REPOSITORY in path.resolve().parents for path in ran)


def clone(folder: Path) -> Path:
    """Return a clone of the repository in the folder, made where there is none."""
    work = folder / "clone"
    if not work.is_dir():
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(work)], check=True)
    return work


def submitted(dashboard: str, home: Path, folder: Path, *arguments: str, options: tuple[str, ...] = ()):
    work = clone(folder)
    floe = str(Path(sys.executable).parent / "floe")
    return subprocess.run(
        [
            RAY, "job", "submit", f"--address={dashboard}", "--working-dir", str(work), *options, "--",
            floe, "train", "--config", "configs/smoke.yaml", f"run.home={home}", "evaluation.enabled=false", *arguments,
        ],
        capture_output=True, text=True, timeout=1800, cwd=folder, env={**ENVIRONMENT, "RAY_ADDRESS": dashboard},
    )  # fmt: skip


@pytest.fixture(scope="module")
def at_work(dashboard, second_node, home, tmp_path_factory):
    """Start a job on two nodes that would run for days; return its run's folder in the second step."""
    folder = tmp_path_factory.mktemp("job")
    run_dir = folder / "run"
    much = 0.75 * os.cpu_count()
    arguments = (
        "--run-dir", str(run_dir), "run.num_steps=100000", f"rollout.num_cpus={much}", f"learner.num_cpus={much}",
    )  # fmt: skip
    begun = submitted(dashboard, home, folder, *arguments, options=("--no-wait", "--submission-id", JOB))
    assert begun.returncode == 0, begun.stdout + begun.stderr
    deadline = time.monotonic() + STEP_LIMIT_S
    while not (run_dir / "checkpoints" / "step-000001").is_dir():
        assert time.monotonic() < deadline, job_command(dashboard, "logs").stdout[-4000:]
        time.sleep(0.5)
    return run_dir


def test_a_job_on_two_nodes_has_its_engine_on_one_and_its_learner_on_the_other(dashboard, at_work):
    node_of = {actor["name"]: actor["node_id"] for actor in actors(dashboard) if actor["state"] == "ALIVE"}
    assert node_of["rollout-0"] != node_of["learner"]


def job_command(dashboard: str, name: str) -> subprocess.CompletedProcess:
    command = [RAY, "job", name, f"--address={dashboard}", JOB]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)


def test_the_dashboard_lists_the_actors_with_their_roles_while_the_run_is_on(dashboard, at_work):
    with headless_browser(width=1700) as chrome:
        chrome.execute_cdp_cmd("Network.enable", {})
        chrome.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Authorization": f"Bearer {TOKEN}"}})
        chrome.get(f"{dashboard}/#/actors")
        deadline = time.monotonic() + LOAD_LIMIT_S
        while not all(role in (shown := chrome.find_element("tag name", "body").text) for role in ROLES):
            assert time.monotonic() < deadline, shown
            time.sleep(0.5)
        if folder := os.environ.get("FLOE_SCREENSHOTS"):
            chrome.save_screenshot(str(Path(folder) / "ray_actors.png"))
    assert "ALIVE" in shown


def test_the_jobs_log_is_the_runs_lines(dashboard, at_work):
    shown = job_command(dashboard, "logs").stdout
    assert "step      1/100000" in shown and f"run folder {at_work}" in shown


def test_a_job_that_is_stopped_leaves_no_actor_no_process_and_no_lock(dashboard, at_work):
    alive = [actor for actor in actors(dashboard) if actor["state"] == "ALIVE" and actor["name"] in ROLES]
    family = [psutil.Process(actor["pid"]) for actor in alive]
    family += [child for process in family for child in process.children(recursive=True)]
    assert names(alive) == ROLES
    assert holders(at_work) != []
    assert job_command(dashboard, "stop").returncode == 0
    assert "stopped" in job_command(dashboard, "status").stdout.lower()
    assert psutil.wait_procs(family, timeout=600)[1] == []
    assert not [actor for actor in actors(dashboard) if actor["state"] == "ALIVE" and actor["name"] in ROLES]
    assert holders(at_work) == []


def holders(folder: Path) -> list[str]:
    """Return processes with a file of the folder open, and so with any lock on it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found += [one.path for one in process.open_files() if folder in Path(one.path).parents]
    return found
