"""Finds a question's SQLite file in a folder, however its author named it, and tells its content."""

from __future__ import annotations

import stat
import unicodedata
from pathlib import Path

import xxhash

from configs.errors import UserError

SUFFIXES = (".sqlite", ".sqlite3", ".db")
SQLITE_HEADER = b"SQLite format 3\0"
READ_BYTES = 1 << 20


def find_database(folder: Path, database_id: str) -> Path | None:
    """`<id>/<id>.sqlite` in `folder`; else with another suffix or case, or without a folder of its own; else the only
    database in the folder `<id>`."""
    homes = _named(folder, (database_id,), is_file=False)
    for home in (*homes, folder):
        for suffix in SUFFIXES:
            if found := _named(home, (f"{database_id}{suffix}",), is_file=True):
                return found[0]
    for home in homes:
        files = [one for one in _entries(home) if one.suffix in SUFFIXES and one.is_file() and one.name[0] != "."]
        if len(files) == 1:
            return files[0]
    return None


def fault_of_file(path: Path) -> str | None:
    """Why the file can be no database, by its first bytes; None when it can."""
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
    """xxh3-128 of the file, and of its write-ahead log where it has one."""
    digest = xxhash.xxh3_128()
    for part in (path, path.with_name(path.name + "-wal")):
        if part.is_file():
            with part.open("rb") as file:
                while block := file.read(READ_BYTES):
                    digest.update(block)
    return digest.hexdigest()


def _named(folder: Path, names: tuple[str, ...], *, is_file: bool) -> list[Path]:
    """Entries of these names, those that are exact first."""
    wanted = {_plain(name) for name in names}
    found = [one for one in _entries(folder) if _plain(one.name) in wanted and one.is_file() == is_file]
    return sorted(found, key=lambda one: (one.name not in names, one.name))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise UserError(f"Can't look into {folder} ({error.strerror}): check its permissions.") from None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
