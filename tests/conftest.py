"""Fixtures that are costly and shared by the whole test run: one home, one smoke run."""

import gc
import ipaddress
import os
import shutil
import signal
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import settings

from floe.cluster.machine.vllm_build import installed_builds
from tests.command_line import REPOSITORY, config, floe
from tests.cpu_engine import skip_reason
from tests.preloaded.python import end_server, start_server
from tests.preloaded.ray_workers import preload_workers
from tests.ray_processes import descendants

MAY_BE_MISSING = ("../shared/data", "asks a GPU itself", "verifiers needs openai<3")  # as the reasons of skips say it
COSTLY_FIXTURES = {"home", "smoke_run"}
INSTALLED = installed_builds()

gc.disable()  # until all is collected: nothing that libraries and tests load is garbage

# A busy machine makes single examples slow, which says nothing about the code.
settings.register_profile("floe", deadline=None)
settings.load_profile("floe")

# Ray writes the address of a cluster that it starts into this folder, and floe joins the one that it finds there: not
# that of the other process's tests, nor what a killed test run has left. Short: it is part of sockets' paths.
RAY_DIR = tempfile.mkdtemp(prefix="floe-ray-")
os.environ["RAY_TMPDIR"] = RAY_DIR

# A shell that runs the tests in the background has Ctrl-C ignored, and so would all processes be that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class SmokeRun:
    home: Path
    run_dir: Path
    output: str
    open_servers: frozenset[str]  # addresses beyond the loopback interface at which one of its processes listened


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    """A fresh FLOE_HOME; with FLOE_TEST_HOME one that keeps the tiny model between runs while developing."""
    return home_of_tests(tmp_path_factory)


@pytest.fixture(scope="session")
def other_home(tmp_path_factory) -> Path:
    """Return a home like `home`, for tests that make their own runs: they need not wait for the smoke run's process.

    The demo and the tiny model are copied where that process has made them already.
    """
    folder = home_of_tests(tmp_path_factory)
    made = shared_by_processes(tmp_path_factory)
    if made.is_dir() and not any(folder.iterdir()):
        shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder


def shared_by_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the home of the smoke run is copied to; under xdist one folder for all processes."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own) / "made-by-smoke-run"


def share_with_processes(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Copy what another process may need; it appears all at once."""
    target = shared_by_processes(tmp_path_factory)
    partial = target.with_suffix(".partial")
    for name in ("demo", "models"):
        shutil.copytree(home / name, partial / name)
    partial.rename(target)


def home_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("FLOE_TEST_HOME")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
    return Path(kept) if kept else tmp_path_factory.mktemp("floe-home")


@pytest.fixture(scope="session")
def smoke_run(home, tmp_path_factory) -> SmokeRun:
    """`configs/smoke.yaml` once, with the real vLLM, Ray, DeepSpeed and SQLite; in CI it starts as a user's does."""
    run_dir = tmp_path_factory.mktemp("runs") / "smoke"
    found: set[str] = set()
    ended = threading.Event()
    watcher = threading.Thread(target=watch_servers, args=(found, ended), daemon=True)
    watcher.start()
    done = floe(
        "train", "--config", config("smoke.yaml"), "--run-dir", str(run_dir), "cluster.address=local",
        home=home, is_preloaded=os.environ.get("FLOE_CI") != "1",
    )  # fmt: skip
    ended.set()
    watcher.join()
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    share_with_processes(home, tmp_path_factory)
    return SmokeRun(home=home, run_dir=run_dir, output=done.stdout, open_servers=frozenset(found))


def watch_servers(found: set[str], ended: threading.Event) -> None:
    """Note the servers of this process's descendants until `ended`."""
    while not ended.wait(1.0):
        for process in descendants(psutil.Process()):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                found |= {
                    f"{one.laddr.ip}:{one.laddr.port} of {' '.join(process.cmdline())[:80]}"
                    for one in process.net_connections("inet")
                    if one.status == psutil.CONN_LISTEN and not is_loopback(one.laddr.ip)
                }


def is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Spider and BIRD next to the repository; tests that need them say so when they skip."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the data sets are not at ../shared/data")
    return folder


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give all tests that need the model and the run to the process that makes them; share out the other files.

    xdist reads the groups before any hook that sees all items.
    """
    if COSTLY_FIXTURES & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.engine)
        item.add_marker(pytest.mark.trained)
    markers = {one.name for one in item.iter_markers()}
    if reason := skip_reason(markers, getattr(item, "fixturenames", ()), INSTALLED):
        item.add_marker(pytest.mark.skip(reason=reason))
    is_trained = item.get_closest_marker("trained") is not None
    item.add_marker(pytest.mark.xdist_group("trained" if is_trained else item.path.stem))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first, so that both processes end together: tests that need a run, then engines, then the rest.

    Of the engines' files, those that can use what the smoke run makes come last, the long ones among them first.
    """
    with_engine = {item.path for item in items if item.get_closest_marker("engine")}
    waiting = {item.path for item in items if "other_home" in getattr(item, "fixturenames", ())}
    with_long = {item.path for item in items if item.get_closest_marker("long")}

    def place(item: pytest.Item) -> int:
        if item.get_closest_marker("trained"):
            return 0
        if item.path in waiting:
            return 2 if item.path in with_long else 3
        return 1 if item.path in with_engine else 4

    items.sort(key=place)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have the collector leave alone what is loaded by now, which stays to the end.

    Raises UsageError where xdist has lost the groups: every process would then make a run of its own.
    """
    gc.freeze()
    gc.enable()
    if os.environ.get("PYTEST_XDIST_WORKER") and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("xdist does not keep groups together with this pytest: install 'pytest<9.2'.")


def pytest_configure(config: pytest.Config) -> None:
    """Start one server for all processes of the test run, which xdist starts after this."""
    if not hasattr(config, "workerinput"):
        # A lane with engines needs it soon; while it loads, the processes of xdist collect the tests.
        has_engines = bool(config.getoption("numprocesses", None)) and "not engine" not in config.option.markexpr
        start_server(Path(RAY_DIR), loads_at_once=has_engines)
    preload_workers()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        end_server(Path(RAY_DIR))
    shutil.rmtree(RAY_DIR, ignore_errors=True)
    gc.unfreeze()  # at the end some libraries look for what they have left


@pytest.fixture(scope="session", autouse=True)
def one_core_each() -> None:
    """Give each of xdist's processes its own core, also for the processes that it starts.

    Where two test on two cores, threads of the one would wait for those of the other.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
        torch.set_num_threads(1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Turn a skip into a failure in CI, except for data sets that a clone lacks and for a GPU."""
    outcome = yield
    report = outcome.get_result()
    is_allowed = any(reason in str(report.longrepr) for reason in MAY_BE_MISSING)
    if report.skipped and os.environ.get("FLOE_CI") == "1" and not is_allowed:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
