"""Digests of files, cached by size and times in the file system, so that a large file is read once for all runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from xxhash import xxh3_128

from floe.configs.files.whole_files import write_whole

CACHE_FILE = "digests.json"
CHUNK_BYTES = 2**22
NUM_READERS = 4  # hashing and reading release Python's lock
SETTLED_AFTER_S = 2.0  # a younger file may change once more within the same tick of its clock
KNOWN = TypeAdapter(dict[str, str])  # digest by path, inode, size and times


def digests_of(paths: Sequence[Path], home_dir: Path) -> list[str]:
    """Return each file's digest, from the cache in `home_dir` where the file is unchanged since it was last read.

    Raises OSError for a file that can't be read. A cache that can't be written only costs time at the next start.
    """
    cache = home_dir / CACHE_FILE
    known = _read(cache)
    keys = [_key(path) for path in paths]
    new = [(path, key) for path, key in zip(paths, keys, strict=True) if key not in known]
    if new:
        with ThreadPoolExecutor(NUM_READERS) as readers:
            found = dict(zip((key for _, key in new), readers.map(_digest, (path for path, _ in new)), strict=True))
        known |= found
        with suppress(OSError):
            _write(cache, {key: known[key] for key in known if key not in found or _is_settled(key)})
    return [known[key] for key in keys]


def _digest(path: Path) -> str:
    state = xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()


def _key(path: Path) -> str:
    found = path.stat()
    place = path.resolve()
    return "|".join(map(str, (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, place)))


def _is_settled(key: str) -> bool:
    *_, changed_ns, _ = key.split("|", 4)
    return time.time() - int(changed_ns) / 1e9 > SETTLED_AFTER_S


def _read(cache: Path) -> dict[str, str]:
    try:
        return KNOWN.validate_json(cache.read_bytes(), strict=True)
    except (OSError, ValidationError):
        return {}


def _write(cache: Path, known: dict[str, str]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_whole(cache, KNOWN.dump_json(known, indent=0).decode())
