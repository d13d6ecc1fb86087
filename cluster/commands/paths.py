"""Paths on the command line: relative ones start at the working folder, and `~` is the home folder after a `=` too."""

from __future__ import annotations

from pathlib import Path

from floe.configs.errors import UserError
from floe.configs.files.paths import placed_path
from floe.configs.files.shipped import shipped_config


def given_path(given: str | Path) -> Path:
    """Return the path as an absolute one; this is the `parser` of every path of a command. Raises UserError."""
    try:
        return placed_path(str(given), Path())
    except ValueError as fault:
        raise UserError(f"The command line has {str(given)[:80]!r}, but a path must be {fault}.") from None


def given_config(given: str | Path) -> Path:
    """Return the configuration file that a path or a shipped configuration's name means. Raises UserError."""
    return shipped_config(str(given)) or given_path(given)
