"""A folder's files with their sizes and digests, to check that it is whole and as it was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter
from xxhash import xxh3_128

MANIFEST = "manifest.json"
CHUNK_BYTES = 2**20


class DamagedFolder(Exception):
    """A file is missing or different."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    size: int  # bytes
    digest: str  # xxh3-128


MANIFESTS = TypeAdapter(dict[str, FileEntry])  # by path inside the folder, with `/`


def write_manifest(folder: Path) -> None:
    """Write the manifest of every file below `folder`. Raises ValueError when one is not a plain file."""
    entries = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"a checkpoint holds plain files, and {path} is not one")
        if path.is_file():
            entries[path.relative_to(folder).as_posix()] = _entry(path)
    (folder / MANIFEST).write_bytes(MANIFESTS.dump_json(entries, indent=2))


def verify_folder(folder: Path, required: str) -> None:
    """Raise DamagedFolder unless every file of the manifest, `required` among them, is there as it was written."""
    try:
        entries = MANIFESTS.validate_json((folder / MANIFEST).read_bytes(), strict=True)
    except (OSError, ValueError) as fault:
        raise DamagedFolder(f"{MANIFEST} is missing or unreadable") from fault
    if required not in entries:
        raise DamagedFolder(f"{MANIFEST} does not list {required}")
    for name, entry in entries.items():
        try:
            path = inside(folder, name)
            if path.stat().st_size != entry.size or _entry(path) != entry:
                raise DamagedFolder(f"{name} is not what was written")
        except (OSError, ValueError) as fault:
            raise DamagedFolder(f"{name} is missing or unreadable") from fault


def inside(folder: Path, name: str) -> Path:
    """Return the file `name` of the folder.

    Raises DamagedFolder when the name leads out of it, also through a link.
    """
    parts = PurePosixPath(name).parts
    path = folder.joinpath(*parts)
    if not parts or "\0" in name or PurePosixPath(name).is_absolute() or ".." in parts:
        raise DamagedFolder(f"the name {name!r} does not stay in the folder")
    if any(step.is_symlink() for step in (path, *path.parents) if step.is_relative_to(folder) and step != folder):
        raise DamagedFolder(f"{name!r} is a link")
    return path


def _entry(path: Path) -> FileEntry:
    state, size = xxh3_128(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            state.update(chunk)
            size += len(chunk)
    return FileEntry(size=size, digest=state.hexdigest())
