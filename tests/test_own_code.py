"""Processes that floe starts take floe from where it came from itself, whatever lies in the working folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from floe.cluster.contained import own_code
from tests.command_line import REPOSITORY, SMOKE_TIMEOUT_S

STARTS_FLOE = """
import os, subprocess, sys
sys.path.insert(0, {root!r})
from floe.cluster.contained.own_code import module_command
from floe.cluster.environment import environment_of_floe
sys.exit(subprocess.run(module_command("floe.cluster.cli", "version"), env=environment_of_floe()).returncode)
"""
IN_A_WORKER = """
import sys
sys.path.insert(0, {root!r})
import ray
from floe.cluster.ray_actors.placement import ray_session
from floe.configs.schema import ClusterSection
def places():
    from floe import actors, learner
    return [actors.__file__, learner.__file__]
with ray_session(ClusterSection(address="local", min_free_memory_gib=0), "places"):
    print(*ray.get(ray.remote(places).remote()), sep="\\n")
"""


@pytest.fixture
def project(tmp_path) -> Path:
    """Make a user's folder with modules of floe's names, which end the process that imports them."""
    for name in ("actors", "cluster", "configs", "learner", "reward_service"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the module of the user')\n")
    return tmp_path


def run_in(folder: Path, program: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
    return subprocess.run(
        [sys.executable, "-P", "-c", program.format(root=str(REPOSITORY))],
        cwd=folder, env=environment | variables, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def test_a_command_that_floe_starts_passes_over_a_users_modules(project):
    done = run_in(project, STARTS_FLOE)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_an_entry_of_the_module_path_that_means_the_working_folder_is_not_handed_on(project):
    done = run_in(project, STARTS_FLOE, PYTHONPATH=os.pathsep)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_floes_folder_comes_before_what_the_user_has_on_the_module_path():
    found = own_code.with_own_code({"PYTHONPATH": f"/their/own{os.pathsep}", "LANG": "C"})
    assert found == {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), "/their/own"]), "LANG": "C"}


def test_where_floe_is_an_installed_package_nothing_is_added():
    assert own_code.needed_roots(Path(sysconfig.get_path("purelib")).resolve()) == ()
    assert own_code.needed_roots() == (str(REPOSITORY),)


def test_ray_is_told_of_floes_folder_alone():
    from floe.cluster.ray_actors.worker_path import job_config

    config = job_config()
    config._py_driver_sys_path.extend(["/the/working/folder"])  # as ray.init does
    assert list(config._get_proto_job_config().py_driver_sys_path) == [str(REPOSITORY)]


@pytest.mark.engine
@pytest.mark.long
def test_rays_workers_pass_over_a_users_modules(project):
    done = run_in(project, IN_A_WORKER)
    assert done.stdout.splitlines() == [
        str(REPOSITORY / "floe" / "actors" / "__init__.py"), str(REPOSITORY / "floe" / "learner" / "__init__.py"),
    ], done.stderr  # fmt: skip


@pytest.mark.engine
@pytest.mark.long
def test_a_run_passes_over_a_users_packages(tmp_path, other_home):
    """The supervisor, the actors, their engines and the reward children all start in a folder of such packages."""
    for name in ("actors", "cluster", "configs", "learner", "reward_service", "utils"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the package of the user')\n")
    run_dir = tmp_path / "run"
    done = subprocess.run(
        [
            sys.executable, "-m", "floe", "train", "--config", "smoke", "--run-dir", str(run_dir), "run.retries=1",
            "run.num_steps=1", "evaluation.enabled=false", f"run.home={other_home}", "cluster.address=local",
        ],
        cwd=tmp_path, env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        capture_output=True, text=True, timeout=SMOKE_TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 1
    assert "the package of the user" not in done.stdout + done.stderr
