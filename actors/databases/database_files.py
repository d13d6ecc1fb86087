"""Tells what a database file is by its first bytes, and names its content by a digest."""

from __future__ import annotations

import stat
from pathlib import Path

import xxhash

SQLITE_HEADER = b"SQLite format 3\0"
READ_BYTES = 1 << 20


def fault_of_file(path: Path) -> str | None:
    """Return why the file can be no database, by its first bytes; None when it can."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return f"{path} is no regular file"  # opening a pipe would wait for ever
        with path.open("rb") as file:
            header = file.read(len(SQLITE_HEADER))
    except OSError as error:
        return f"{path} can't be read ({error.strerror})"
    if not header:
        return f"{path} is empty"
    if header.startswith(b"version https"):
        return f"{path} is a pointer of Git LFS, not the database itself"
    return None if header == SQLITE_HEADER else f"{path} is no SQLite file"


def content_digest(path: Path) -> str:
    """Return the xxh3-128 of the file and of its write-ahead log, where it has one."""
    digest = xxhash.xxh3_128()
    for part in (path, path.with_name(path.name + "-wal")):
        if part.is_file():
            with part.open("rb") as file:
                while block := file.read(READ_BYTES):
                    digest.update(block)
    return digest.hexdigest()
