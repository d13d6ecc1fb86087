"""A disk that fills and a run folder that goes away during a run end it with one sentence."""

from __future__ import annotations

import errno
import io
import shutil
import sqlite3

import pytest
from rich.console import Console

from floe.cluster.run_folder.folder_faults import folder_faults
from floe.cluster.run_folder.status import RunState
from floe.cluster.run_folder.status_file import read_status
from floe.cluster.terminal.progress import Progress
from floe.cluster.tracking.metrics_log import MetricsLog
from floe.cluster.tracking.record_sink import RunEnd
from floe.cluster.training.run_watch import run_watch
from floe.configs.errors import UserError
from floe.configs.files.loading import dump_config
from floe.configs.schema import RunConfig
from tests.run_folders import run_folder
from tests.scored_groups import scored_group
from tests.step_records import MIXED, metrics_of


class Sink:
    def __init__(self) -> None:
        self.ends: list[RunEnd] = []

    def write(self, step, values) -> None:
        pass

    def close(self, end: RunEnd) -> None:
        self.ends.append(end)


def test_a_disk_that_fills_within_a_step_is_said_and_the_trackers_are_told(tmp_path):
    run_dir, sink = run_folder(tmp_path / "run"), Sink()
    (run_dir / "metrics.jsonl").symlink_to("/dev/full")  # each write ends with 'no space left'
    progress = Progress(Console(file=io.StringIO(), width=300))
    with (
        pytest.raises(UserError, match=r"The disk is full .* bytes are free.*--resume"),
        run_watch(run_dir, 3, progress),
        MetricsLog(run_dir, [sink]) as log,
    ):
        log.write(metrics_of(scored_group(MIXED)))
    assert sink.ends == [RunEnd.FAILED]
    status = read_status(run_dir)
    assert status.state is RunState.FAILED and status.error.startswith("The disk is full")


def full_sqlite() -> sqlite3.OperationalError:
    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA max_page_count=1")
    try:
        database.execute("CREATE TABLE t (a)")
    except sqlite3.OperationalError as fault:
        return fault
    raise AssertionError


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        full_sqlite(),
        RuntimeError("ray::LearnerActor.save()\nSafetensorError: I/O error: No space left on device (os error 28)"),
    ],
    ids=["quota", "SQLite", "another process"],
)
def test_each_librarys_word_for_a_full_disk_is_known(tmp_path, fault):
    run_dir = run_folder(tmp_path / "run")
    with pytest.raises(UserError, match="The disk is full"), folder_faults(run_dir):
        try:
            raise fault
        except Exception as cause:
            raise RuntimeError("the step failed") from cause


def test_other_errors_stay_what_they_are(tmp_path):
    run_dir = run_folder(tmp_path / "run")
    with pytest.raises(RuntimeError, match="a bug"), folder_faults(run_dir):
        raise RuntimeError("a bug")


@pytest.mark.parametrize("act", [shutil.rmtree, lambda folder: folder.rename(folder.with_name("moved"))])
def test_a_folder_that_goes_away_ends_the_run_and_is_not_made_again(tmp_path, act, monkeypatch):
    monkeypatch.setenv("FLOE_HOME", str(tmp_path / "home"))
    run_dir = run_folder(tmp_path / "run")
    progress = Progress(Console(file=io.StringIO(), width=300))
    with (
        pytest.raises(UserError, match="was moved or deleted") as said,
        run_watch(run_dir, 3, progress),
        MetricsLog(run_dir) as log,
    ):
        log.check_in_place()
        log.write(metrics_of(scored_group(MIXED)))
        act(run_dir)
        log.check_in_place()
    assert not run_dir.exists()
    assert any(str(tmp_path / "home" / "logs") in note for note in said.value.__notes__)


def test_what_a_library_makes_of_a_folder_that_is_gone_is_said_as_that(tmp_path):
    run_dir = run_folder(tmp_path / "run")
    with pytest.raises(UserError, match="was moved or deleted"), folder_faults(run_dir):
        shutil.rmtree(run_dir)
        (run_dir / "report.json").write_text("")


def test_a_configuration_that_finds_no_room_leaves_the_one_before(tmp_path, monkeypatch):
    path = run_folder(tmp_path / "run") / "config.yaml"
    before = path.read_bytes()

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        dump_config(RunConfig(), path)
    assert path.read_bytes() == before
