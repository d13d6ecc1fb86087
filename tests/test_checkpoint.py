"""Checkpoints are whole or not there: after a kill at any file operation, on a full disk, on damage."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floe.cluster.checkpoints.manifest import DamagedFolder, inside, verify_folder, write_manifest
from floe.cluster.checkpoints.state import RunState, library_versions
from floe.cluster.checkpoints.store import CheckpointStore
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

OPERATIONS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
KILLED, DONE = 9, 0


def state(step: int) -> RunState:
    return RunState(
        step=step,
        metrics_position=1000 * step,
        configuration=RunConfig().model_dump(mode="json"),
        library_versions={"torch": "2.13.0"},
        live_adapter_versions=(step - 1, step),
    )


def fill_with(mark: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "learner").mkdir()
        (folder / "learner" / "optimizer.safetensors").write_text(mark * 50)
        (folder / "adapter.json").write_text(mark)

    return fill


def mark_of(folder: Path) -> str:
    mark = (folder / "adapter.json").read_text()
    assert (folder / "learner" / "optimizer.safetensors").read_text() == mark * 50
    return mark


def names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def store_of(run_dir: Path, keep: int = 2) -> tuple[CheckpointStore, list[str]]:
    lines: list[str] = []
    return CheckpointStore(run_dir, keep, lines.append), lines


def test_the_newest_is_what_was_written_and_the_oldest_go(tmp_path):
    store, lines = store_of(tmp_path)
    assert store.newest() is None
    for step in (3, 6, 9):
        assert store.write(step, fill_with(f"s{step}"), state(step)) == tmp_path / "checkpoints" / f"step-{step:06d}"
    newest = store_of(tmp_path)[0].newest()
    assert newest is not None
    assert (newest.state, mark_of(newest.folder)) == (state(9), "s9")
    assert names(tmp_path) == ["step-000006", "step-000009"]
    assert not lines


def test_a_run_that_went_back_replaces_its_future(tmp_path):
    store, _ = store_of(tmp_path, keep=1)
    store.write(20, fill_with("old"), state(20))
    store.write(10, fill_with("new"), state(10))
    assert names(tmp_path) == ["step-000010"]
    store.write(10, fill_with("newer"), state(10))
    newest = store.newest()
    assert newest is not None and mark_of(newest.folder) == "newer"
    assert names(tmp_path) == ["step-000010"]


# A kill at every file operation


def write_until(run_dir: Path, step: int, mark: str, num_operations: int) -> int:
    """Write in a separate process that ends, without any clean-up, before the operation after `num_operations`."""
    child = os.fork()
    if child == 0:
        done = 0

        def count(event: str, arguments: tuple) -> None:
            nonlocal done
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if writes or event in OPERATIONS:
                if done == num_operations:
                    os._exit(KILLED)
                done += 1

        sys.addaudithook(count)
        CheckpointStore(run_dir, 2).write(step, fill_with(mark), state(step))
        os._exit(DONE)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    ("before", "step"),
    [([], 3), ([3], 6), ([3, 6], 9), ([3, 6], 6), ([6, 9], 3)],
    ids=["first", "second", "surplus", "same step", "gone back"],
)
def test_a_kill_at_any_file_operation_leaves_a_whole_checkpoint(tmp_path, monkeypatch, before, step):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a kill takes nothing from the disk, and it costs seconds here
    (tmp_path / "before").mkdir()
    for earlier in before:
        CheckpointStore(tmp_path / "before", 2).write(earlier, fill_with(f"s{earlier}"), state(earlier))
    marks = [f"s{earlier}" for earlier in before] or [None]
    # While later steps are removed one by one, the newest one left is picked, and it is whole too.
    allowed = {"new", *(marks if before and step < before[-1] else marks[-1:])}
    seen, num_operations, code = set(), 0, KILLED
    while code == KILLED:
        run_dir = shutil.copytree(tmp_path / "before", tmp_path / str(num_operations))
        code = write_until(run_dir, step, "new", num_operations)
        store, lines = store_of(run_dir)
        newest = store.newest()
        seen.add(None if newest is None else mark_of(newest.folder))
        assert not lines  # none of those that it might pick is damaged
        store.write(step + 1, fill_with("next"), state(step + 1))
        after = store.newest()
        assert after is not None and mark_of(after.folder) == "next"
        kept = [step + 1, *(earlier for earlier in {*before, step} if earlier < step + 1)]
        assert set(names(run_dir)) <= {f"step-{one:06d}" for one in kept}
        num_operations += 1
    assert code == DONE
    assert num_operations > 7
    assert {"new", marks[-1]} <= seen <= allowed


def test_everything_is_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    events: list[tuple[str, str]] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(descriptor: int) -> None:
        events.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def noted_rename(path: Path, target: Path) -> Path:
        events.append(("rename", str(path)))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    folder = store_of(tmp_path)[0].write(3, fill_with("a"), state(3))
    (renamed,) = [index for index, (kind, _) in enumerate(events) if kind == "rename"]
    staging = events[renamed][1]
    synced = {path for _, path in events[:renamed]}
    assert synced == {staging} | {str(staging / path.relative_to(folder)) for path in folder.rglob("*")}
    assert {path for _, path in events[renamed + 1 :]} == {str(folder.parent), str(tmp_path)}


# A full disk, a fault, remains of dead drivers


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["fill", "state"])
def test_a_full_disk_is_said_and_harms_nothing(tmp_path, monkeypatch, where, number):
    store, _ = store_of(tmp_path)
    store.write(3, fill_with("good"), state(3))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 4321, 4321))
    write_bytes = Path.write_bytes

    def no_room(path: Path, content: bytes) -> int:
        if path.name == "state.json" or where == "fill":
            write_bytes(path, content[: len(content) // 2])
            raise OSError(number, os.strerror(number), str(path))
        return write_bytes(path, content)

    def fill(folder: Path) -> None:
        (folder / "big.safetensors").write_bytes(b"1234")

    monkeypatch.setattr(Path, "write_bytes", no_room)
    with pytest.raises(UserError) as refusal:
        store.write(6, fill, state(6))
    assert str(tmp_path / "checkpoints") in str(refusal.value)
    assert "4321 bytes" in str(refusal.value)
    newest = store.newest()
    assert newest is not None and mark_of(newest.folder) == "good"
    assert names(tmp_path) == ["step-000003"]


def test_a_fault_of_the_filling_is_raised_and_leaves_nothing(tmp_path):
    store, _ = store_of(tmp_path)

    def fill(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RuntimeError("the learner died")

    with pytest.raises(RuntimeError, match="the learner died"):
        store.write(3, fill, state(3))
    assert names(tmp_path) == []


def test_staging_folders_go_when_their_driver_is_dead(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    alive, own = os.getppid(), os.getpid()
    for number in (dead.pid, alive, own):
        (tmp_path / "checkpoints" / f".writing-step-000003-{number}" / "learner").mkdir(parents=True)
        (tmp_path / "checkpoints" / f".removing-step-000001-{number}").mkdir()
    CheckpointStore(tmp_path, 2)
    assert names(tmp_path) == [f".removing-step-000001-{alive}", f".writing-step-000003-{alive}"]


# Damage


@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path_factory, data):
    run_dir = tmp_path_factory.mktemp("run")
    store, lines = store_of(run_dir)
    store.write(3, fill_with("old"), state(3))
    folder = store.write(6, fill_with("new"), state(6))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files), "file")
    content = bytearray(path.read_bytes())
    how = data.draw(st.sampled_from(["flip", "cut", "gone"]), "how")
    if how == "flip":
        content[data.draw(st.integers(0, len(content) - 1), "at")] ^= data.draw(st.integers(1, 255), "by")
    elif how == "cut":
        del content[data.draw(st.integers(0, len(content) - 1), "at") :]
    path.write_bytes(content)
    if how == "gone":
        path.unlink()
    newest = store.newest()
    assert newest is not None
    if newest.folder == folder:  # a change of the manifest's own blanks
        assert path.name == "manifest.json"
        assert (newest.state, mark_of(folder)) == (state(6), "new")
    else:
        assert (newest.state, mark_of(newest.folder)) == (state(3), "old")
        assert len(lines) == 1 and str(folder) in lines[0]


def test_nothing_is_found_when_all_are_damaged(tmp_path):
    store, lines = store_of(tmp_path)
    for step in (3, 6):
        (store.write(step, fill_with("x"), state(step)) / "state.json").unlink()
    assert store.newest() is None
    assert len(lines) == 2


PARTS = st.sampled_from(["..", ".", "", "a", "learner", "/", "etc"])


@given(name=st.lists(PARTS, max_size=5).map("/".join) | st.text(max_size=12))
def test_a_manifests_name_never_leads_out_of_the_folder(name):
    folder = Path("/nowhere/checkpoints/step-000003")
    try:
        found = inside(folder, name)
    except DamagedFolder:
        return
    assert Path(os.path.normpath(found)).is_relative_to(folder) and found != folder
    assert ".." not in found.parts


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_link_in_a_checkpoint_is_not_followed(tmp_path, link):
    folder = tmp_path / "step"
    (folder / "learner").mkdir(parents=True)
    (folder / "learner" / "state").write_text("content")
    write_manifest(folder)
    verify_folder(folder, "learner/state")
    shutil.move(folder / "learner", tmp_path / "elsewhere")
    if link == "folder":
        (folder / "learner").symlink_to(tmp_path / "elsewhere")
    else:
        (folder / "learner").mkdir()
        (folder / "learner" / "state").symlink_to(tmp_path / "elsewhere" / "state")
    with pytest.raises(DamagedFolder, match="is a link"):
        verify_folder(folder, "learner/state")
    with pytest.raises(ValueError, match="plain files"):
        write_manifest(folder)


def test_a_required_file_has_to_be_listed(tmp_path):
    (tmp_path / "other").write_text("x")
    write_manifest(tmp_path)
    with pytest.raises(DamagedFolder, match=r"does not list state\.json"):
        verify_folder(tmp_path, "state.json")


def test_a_state_is_read_as_it_was_written():
    assert RunState.from_json(state(7).to_json()) == state(7)
    with pytest.raises(ValueError):
        RunState.from_json(b'{"step": "7"}')


def test_the_libraries_that_matter_have_versions():
    found = library_versions()
    assert set(found) == {"torch", "transformers", "peft", "deepspeed", "vllm", "ray", "safetensors"}
    assert all(found.values())
