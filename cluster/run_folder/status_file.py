"""Reads a run's status file, and tells whether the driver that wrote it is alive."""

from __future__ import annotations

import socket
from pathlib import Path

import psutil

from floe.cluster.run_folder.file_names import STATUS_FILE
from floe.cluster.run_folder.status import RunStatus, as_found
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import read_regular_text

START_TOLERANCE_S = 2.0  # by which two readings of a process's start time may differ


def read_status(run_dir: Path) -> RunStatus:
    """Read the status. Raises UserError where there is none."""
    try:
        return RunStatus.from_json(read_regular_text(run_dir / STATUS_FILE))
    except OSError as fault:
        raise UserError(
            f"There is no run in {run_dir} ({STATUS_FILE}: {fault.strerror}): give the folder that floe train named."
        ) from fault
    except ValueError as fault:
        raise UserError(f"{run_dir / STATUS_FILE} can't be read ({fault}): did another version write it?") from fault


def is_driver_alive(status: RunStatus) -> bool | None:
    """Return whether the driver lives; None for a run on another machine. Number and start time identify the driver."""
    if status.host != socket.gethostname():
        return None
    try:
        process = psutil.Process(status.pid)
        is_same = abs(process.create_time() - status.started) <= START_TOLERANCE_S
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def found_status(run_dir: Path) -> RunStatus | None:
    """Return the status as `floe status` finds it; None where the folder has none that can be read."""
    try:
        written = read_status(run_dir)
    except UserError:
        return None
    return as_found(written, is_driver_alive(written))
