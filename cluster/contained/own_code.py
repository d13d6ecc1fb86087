"""Finds where this process took floe from, so that the processes it starts take it from there too.

The working folder belongs to the user: a `cluster.py` or `actors.py` in it is not part of floe.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import floe

IMPORT_ROOT = Path(floe.__file__).resolve().parents[1]


def needed_roots(root: Path = IMPORT_ROOT) -> tuple[str, ...]:
    """Return what another process must have on its module path: nothing where floe is among the installed packages.

    Folders before the standard library's modules would hide some of them.
    """
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return () if root in installed else (str(root),)


def with_own_code(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a process that is to take floe from where this one did."""
    known = environment.get("PYTHONPATH", "").split(os.pathsep)
    search_path = [*needed_roots(), *(part for part in known if part)]
    return {**environment, **({"PYTHONPATH": os.pathsep.join(search_path)} if search_path else {})}


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of floe in a new process; `-P` leaves the working folder out."""
    return [sys.executable, "-P", "-m", module, *arguments]
