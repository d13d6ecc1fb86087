"""Checks that a folder of floe's can be written, before anything is made for it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from floe.configs.errors import UserError


def make_writable(folder: Path) -> None:
    """Make the folder, which is in `run.home`. Raises UserError where it can't be written."""
    if why := why_not_writable(folder):
        raise UserError(
            f"{folder} can't be written ({why}): set FLOE_HOME or run.home to a folder that can be written."
        )


def why_not_writable(folder: Path) -> str:
    """Make the folder if it is missing; return why nothing can be written in it, empty where that is possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as fault:
        return fault.strerror or str(fault)
