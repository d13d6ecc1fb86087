"""Opens database files that SQLite should not open directly.

To SQLite an empty file is a database without tables. And next to a user's database with an unmerged write-ahead log it
would leave a `-shm` file.
"""

from __future__ import annotations

import os
import resource
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_WAL_VERSION = b"\x02\x02"  # bytes 18 and 19 of the file's header
_COPIES_MARK = secrets.token_hex(8)  # of this process and the children that it forks


def is_empty(database: Path) -> bool:
    """Return whether the file holds no database; SQLite takes an empty file for a database without tables."""
    return os.stat(database).st_size == 0


def opened(database: Path, connect: Callable[[Path, str], T]) -> T:
    """Open the database so that no new file appears next to it.

    `connect` gets a path and a parameter of the URI, and has to read from the file before it returns. Raises OSError,
    and what `connect` raises.
    """
    path = real_file(database)
    log_bytes = _size_bytes(f"{path}-wal")
    if not Path(f"{path}-shm").exists():  # otherwise somebody has it open, and no new file appears
        if log_bytes:
            return _opened_as_copy(path, lambda copy: connect(copy, ""))
        if _is_in_wal_mode(path):
            # Safe while there is no log; whoever makes one changes what the file's state is recognised by.
            return connect(path, "&immutable=1")
    return connect(path, "")


def broken_off_write(database: Path) -> str | None:
    """Say what to do about the journal of a killed write, which only a writer can roll back; None without one."""
    journal = f"{real_file(database)}-journal"
    if not _size_bytes(journal):
        return None
    return f"{journal} is of a write that was broken off: open the database once with the sqlite3 program to undo it"


def real_file(database: Path) -> Path:
    """Return the file that a link leads to: a log stands next to that file."""
    for _ in range(40):  # the kernel follows as many links
        try:
            database = database.parent / os.readlink(database)
        except OSError:
            break
    return database


def copies_dir(process_id: int) -> Path:
    """Return where that process, this one or a child that it forked, keeps its private copies."""
    return Path(tempfile.gettempdir()) / f"floe-copies-{_COPIES_MARK}-{process_id}"


def remove_copies(process_id: int) -> None:
    """Remove the copies of a child that was killed while it copied."""
    shutil.rmtree(copies_dir(process_id), ignore_errors=True)


def _opened_as_copy(database: Path, connect: Callable[[Path], T]) -> T:
    """Open a private copy of the database and its log and remove their names at once: SQLite has both open by then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))  # a contained child may write only small files
    folder = copies_dir(os.getpid())
    try:
        folder.mkdir(mode=0o700)
        copy = folder / database.name
        shutil.copyfile(database, copy)
        shutil.copyfile(f"{database}-wal", f"{copy}-wal")
        return connect(copy)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _size_bytes(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _is_in_wal_mode(database: Path) -> bool:
    with database.open("rb") as file:
        return file.read(20)[18:20] == _WAL_VERSION
