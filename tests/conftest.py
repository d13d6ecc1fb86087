"""Fixtures that are costly and shared by the whole test run: one home, one smoke run."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from tests.command_line import REPOSITORY, config, floe

# A busy machine makes single examples slow, which says nothing about the code.
settings.register_profile("floe", deadline=None)
settings.load_profile("floe")


@dataclass(frozen=True)
class SmokeRun:
    home: Path
    run_dir: Path
    output: str


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    """A fresh FLOE_HOME; with FLOE_TEST_HOME one that keeps the tiny model between runs while developing."""
    kept = os.environ.get("FLOE_TEST_HOME")
    return Path(kept) if kept else tmp_path_factory.mktemp("floe-home")


@pytest.fixture(scope="session")
def smoke_run(home, tmp_path_factory) -> SmokeRun:
    """`configs/smoke.yaml` once, with the real vLLM, Ray, DeepSpeed and SQLite."""
    run_dir = tmp_path_factory.mktemp("runs") / "smoke"
    done = floe(
        "train", "--config", config("smoke.yaml"), "--run-dir", str(run_dir), "cluster.address=local", home=home
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return SmokeRun(home=home, run_dir=run_dir, output=done.stdout)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Spider and BIRD beside the repository; tests that need them say so when they skip."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the data sets are not at ../shared/data")
    return folder


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a skip is a failure, but for data sets that a clone does not bring along."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("FLOE_CI") == "1" and "../shared/data" not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
