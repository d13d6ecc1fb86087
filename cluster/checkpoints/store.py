"""The checkpoints of a run folder: each is whole or absent, whatever is killed or full.

A checkpoint is filled and fsynced under a name that nobody reads, then renamed. A kill before the rename leaves the
earlier one, a kill after it the new one. A checkpoint to be removed is first renamed out of sight.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from floe.cluster.checkpoints.manifest import DamagedFolder, verify_folder, write_manifest
from floe.cluster.checkpoints.state import RunState
from floe.cluster.run_folder.file_names import CHECKPOINTS
from floe.cluster.run_folder.folder_faults import NO_ROOM
from floe.configs.errors import UserError

STATE = "state.json"
WRITING, REMOVING = ".writing-", ".removing-"
REPLACED = ".replaced"  # the earlier one of the same step, until the new one has its name
NAME = re.compile(rf"step-(\d{{6,}})({re.escape(REPLACED)})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint: every file is what was written."""

    folder: Path
    state: RunState


class CheckpointStore:
    """Checkpoints of one run folder, for the only driver that writes there.

    Making it removes what dead drivers left unfinished.
    """

    def __init__(self, run_dir: Path, keep: int, note: Callable[[str], None] = print) -> None:
        """Keep `keep` checkpoints, at least 1; `note` takes a line about one that is damaged."""
        if keep < 1:
            raise ValueError(f"keep is {keep}, but the newest checkpoint always stays")
        self._run_dir = run_dir
        self._folder = run_dir / CHECKPOINTS
        self._keep = keep
        self._note = note
        for prefix in (WRITING, REMOVING):
            for left in self._folder.glob(f"{prefix}*"):
                if not _is_other_driver(left):
                    shutil.rmtree(left)

    def write(self, step: int, fill: Callable[[Path], None], state: RunState) -> Path:
        """Write `checkpoints/step-000012` with what `fill` puts into the folder that it gets, and the state.

        When it returns, the checkpoint survives a loss of power. Raises UserError when the disk is full, and what
        `fill` raises; then the earlier checkpoints are as they were and nothing else is left.
        """
        if state.step != step:
            raise ValueError(f"the state is of step {state.step}, the checkpoint of step {step}")
        self._folder.mkdir(exist_ok=True)
        target = self._folder / f"step-{step:06d}"
        staging = self._folder / f"{WRITING}{target.name}-{os.getpid()}"
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir()
            fill(staging)
            (staging / STATE).write_bytes(state.to_json())
            write_manifest(staging)
            _sync_tree(staging)
            self._put_in_place(staging, target)
        except OSError as fault:
            shutil.rmtree(staging, ignore_errors=True)
            if fault.errno in NO_ROOM:
                raise self._no_room(step) from fault
            raise
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._remove_surplus(step)
        return target

    def newest(self) -> Checkpoint | None:
        """Return the newest that is whole; each newer one that is damaged is noted."""
        for _, path in self._newest_first():
            try:
                return _read(path)
            except DamagedFolder as fault:
                self._note(f"the checkpoint {path} is damaged ({fault}) and is passed over")
        return None

    def _newest_first(self) -> list[tuple[int, Path]]:
        found = []
        for path in self._folder.glob("step-*"):
            match = NAME.fullmatch(path.name)
            if match is not None:
                found.append((int(match[1]), match[2] is None, path))
        return [(step, path) for step, _, path in sorted(found, reverse=True)]

    def _put_in_place(self, staging: Path, target: Path) -> None:
        """Rename it into place; a run that continues from an earlier checkpoint reaches the same step again."""
        if target.exists():
            replaced = target.with_name(target.name + REPLACED)
            if replaced.exists():
                self._remove(replaced)
            target.rename(replaced)
        staging.rename(target)
        _sync(self._folder)
        _sync(self._run_dir)  # which holds the folder's name, new with the first checkpoint

    def _remove_surplus(self, step: int) -> None:
        """Remove those beyond `keep`, and those of later steps, because the run has gone back."""
        num_kept = 0
        for other, path in self._newest_first():
            stays = other <= step and not path.name.endswith(REPLACED) and num_kept < self._keep
            num_kept += stays
            if not stays:
                self._remove(path)

    def _remove(self, path: Path) -> None:
        gone = path.with_name(f"{REMOVING}{path.name}-{os.getpid()}")
        shutil.rmtree(gone, ignore_errors=True)
        path.rename(gone)
        shutil.rmtree(gone)

    def _no_room(self, step: int) -> UserError:
        free_bytes = shutil.disk_usage(self._folder).free
        return UserError(
            f"The disk is full: the checkpoint of step {step} does not fit into {self._folder} ({free_bytes} bytes are "
            f"free); the ones before are unharmed: make room, then continue with --resume {self._run_dir}."
        )


def _read(folder: Path) -> Checkpoint:
    verify_folder(folder, STATE)
    try:
        return Checkpoint(folder=folder, state=RunState.from_json((folder / STATE).read_bytes()))
    except ValueError as fault:
        raise DamagedFolder(f"{STATE} was written by another version") from fault


def _is_other_driver(left: Path) -> bool:
    """Return whether the process whose number ends the name lives.

    This process is new here, so its own number is a dead one's.
    """
    number = left.name.rpartition("-")[2]
    if not number.isdecimal() or int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _sync_tree(folder: Path) -> None:
    """Sync the files first, then the folders that name them, the innermost first."""
    for path in _deepest_first(folder):
        _sync(path)


def _deepest_first(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _deepest_first(path)
        else:
            yield path
    yield folder


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
