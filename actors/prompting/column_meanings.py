"""Reads the files of column meanings that come with BIRD's data since 2024: one object for all databases of a set."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from floe.cluster.databases.places import has_own_folder
from floe.configs.files.foreign_files import parsed_json, read_regular

PATTERN = "*column_meaning.json"
NUM_KEY_PARTS = 3  # `database|table|column`
MAX_KEPT_FILES = 4


def meaning_files(database: Path) -> list[Path]:
    """Return the files in the folder of databases and next to it, whether or not each database has its own folder."""
    start = 1 if has_own_folder(database) else 0
    folders = list(database.absolute().parents)[start : start + 2]
    return [path for folder in folders for path in sorted(folder.glob(PATTERN)) if not path.name.startswith(".")]


def read_meanings(path: Path) -> Mapping[str, Mapping[tuple[str, str], str]]:
    """Return what each column means, by database and then by table and column as the file names them.

    Raises OSError, and ValueError for a file that is no such object.
    """
    state = path.stat()
    return _read(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=MAX_KEPT_FILES)
def _read(path: Path, _size_bytes: int, _mtime_ns: int) -> Mapping[str, Mapping[tuple[str, str], str]]:
    found = parsed_json(read_regular(path))
    if not isinstance(found, dict):
        raise ValueError("it is no object with keys `database|table|column`")
    meanings: dict[str, dict[tuple[str, str], str]] = {}
    for key, text in found.items():
        parts = key.split("|")
        if len(parts) == NUM_KEY_PARTS and isinstance(text, str):
            # Each text begins like a Python comment.
            meanings.setdefault(parts[0], {})[parts[1], parts[2]] = " ".join(text.lstrip("# ").split())
    return meanings
