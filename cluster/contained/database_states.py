"""Database files that SQLite should not open as they are.

An empty file is a database without tables to SQLite. And of one with a write-ahead log that nobody has merged it would
leave a `-shm` file beside the user's.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def has_unmerged_log(database: Path) -> bool:
    """Whether reading the database in its place would make a file there: it has a log, and nobody has it open."""
    log, index = Path(f"{database}-wal"), Path(f"{database}-shm")
    try:
        return os.stat(log).st_size > 0 and not index.exists()
    except FileNotFoundError:
        return False


def is_empty(database: Path) -> bool:
    """Whether the file holds no database; SQLite takes an empty file for a database without tables."""
    return os.stat(database).st_size == 0


def opened_as_copy(database: Path, connect: Callable[[Path], T]) -> T:
    """Open a private copy of the database and its log, which takes no room any more once it is closed.

    `connect` has to read from the file before it returns: then SQLite has opened all that it needs, and the names can
    go. Raises OSError where there is no room.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))  # a contained child may write but small files
    try:
        with tempfile.TemporaryDirectory(prefix="floe-log-") as folder:
            copy = Path(folder) / database.name
            shutil.copyfile(database, copy)
            shutil.copyfile(f"{database}-wal", f"{copy}-wal")
            return connect(copy)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
