"""Reports a full disk, or a run folder that is gone, in place of the error that some library made of it."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from floe.cluster.run_folder.failure_report import causes
from floe.cluster.run_folder.layout import is_run
from floe.configs.errors import UserError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# Errors of other processes, of SQLite and of safetensors keep the system's words, not its number.
SAID_OF_NO_ROOM = re.compile(r"No space left on device|Disk quota exceeded|database or disk is full")


@contextmanager
def folder_faults(run_dir: Path) -> Iterator[None]:
    """Wrap the whole of a run. Raises UserError in place of an error that comes from the folder's disk."""
    was_run = is_run(run_dir)
    try:
        yield
    except UserError:
        raise
    except Exception as fault:
        if is_no_room(fault):
            raise UserError(_no_room(run_dir)) from fault
        if was_run and not is_run(run_dir):
            raise gone(run_dir) from fault
        raise


def is_no_room(error: BaseException) -> bool:
    """Return whether the error comes from a full disk, in whatever process it arose."""
    return any(
        getattr(fault, "errno", None) in NO_ROOM or SAID_OF_NO_ROOM.search(str(fault)) for fault in causes(error)
    )


def gone(run_dir: Path) -> UserError:
    return UserError(
        f"The run folder {run_dir} was moved or deleted while the run wrote to it, so the run has ended: move it back "
        "and go on with --resume, or start anew."
    )


def _no_room(run_dir: Path) -> str:
    try:
        free = f"{shutil.disk_usage(run_dir).free:,} bytes are free in the run's folder"
    except OSError:
        free = "the run's folder is gone too"
    return (
        f"The disk is full ({free}); the checkpoints are unharmed: make room, then go on with floe train --resume "
        f"{run_dir}."
    )
