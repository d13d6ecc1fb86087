"""The learner's state at the best version so far: kept next to the checkpoints, and in each of them by hard links.

So a run that goes on from any checkpoint has the version that was the best then. The links cost no room, because the
files are never changed: a new best version is written to a new folder.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Protocol

from floe.cluster.run_folder.file_names import BEST_POLICY

FOLDER = "best"  # within a checkpoint
WRITING = ".writing"


class SavingLearner(Protocol):
    def save_state(self, folder: Path) -> None: ...


class BestPolicy:
    """The files of one run."""

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / BEST_POLICY

    def keep(self, learner: SavingLearner) -> None:
        """Replace the kept state by the learner's present one. Raises OSError when there is no room."""
        staging = self._staging()
        learner.save_state(staging)
        self._put_in_place(staging)

    def link_into(self, checkpoint: Path) -> None:
        """Put the kept state into a checkpoint that is being written. Raises OSError."""
        shutil.copytree(self.folder, checkpoint / FOLDER, copy_function=_link)

    def take_from(self, checkpoint: Path) -> bool:
        """Make the state in a checkpoint the kept one; return False where it has none. Raises OSError."""
        if not (checkpoint / FOLDER).is_dir():
            return False
        staging = self._staging()
        shutil.copytree(checkpoint / FOLDER, staging, copy_function=_link)
        self._put_in_place(staging)
        return True

    def _staging(self) -> Path:
        staging = self.folder.with_name(self.folder.name + WRITING)
        shutil.rmtree(staging, ignore_errors=True)
        staging.parent.mkdir(parents=True, exist_ok=True)
        return staging

    def _put_in_place(self, staging: Path) -> None:
        """Rename it; a driver that is killed in between takes the state of its checkpoint when it continues."""
        shutil.rmtree(self.folder, ignore_errors=True)
        staging.rename(self.folder)


def _link(source: str, target: str) -> None:
    """Link, or copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
