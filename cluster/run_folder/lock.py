"""Lets only one driver at a time work on a run's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from floe.cluster.run_folder.file_names import LOCK_FILE
from floe.cluster.run_folder.status import RunStatus
from floe.cluster.run_folder.status_file import is_driver_alive, read_status
from floe.configs.errors import UserError


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Hold the folder of a run; the system releases it when the process ends, however it ends.

    Raises UserError when another driver holds it, or when its status file names one that is alive.
    """
    lock = FileLock(run_dir / LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise _refusal(run_dir, _status(run_dir)) from None
    except OSError as fault:
        raise UserError(
            f"Can't lock the run folder {run_dir} ({fault.strerror}): make it writable, or choose another one."
        ) from fault
    try:
        status = _status(run_dir)
        if status is not None and _is_at_work(status):
            raise _refusal(run_dir, status)
        yield
    finally:
        lock.release()


def _status(run_dir: Path) -> RunStatus | None:
    try:
        return read_status(run_dir)
    except UserError:
        return None


def _is_at_work(status: RunStatus) -> bool:
    return not status.state.is_end and status.pid != os.getpid() and is_driver_alive(status) is True


def _refusal(run_dir: Path, status: RunStatus | None) -> UserError:
    driver = "another process" if status is None else f"process {status.pid} on {status.host}"
    return UserError(
        f"The run in {run_dir} is still at work in {driver}: wait for its end, or stop it with Ctrl-C or SIGTERM, and "
        "then go on with --resume."
    )
