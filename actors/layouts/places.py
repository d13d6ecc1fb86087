"""Finds where the parts of an unpacked data set lie in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from floe.configs.errors import UserError

MAX_DEPTH = 2  # as in BIRD's `minidev/MINIDEV/`


def places(folder: Path) -> list[Path]:
    """Return the folder and those below it where the parts may lie, the nearest first. Raises UserError."""
    found = level = [folder]
    for _ in range(MAX_DEPTH):
        level = [one for place in level for one in _folders_in(place)]
        found = [*found, *level]
    return found


def files_named(folder: Path, pattern: str) -> list[Path]:
    """Return the files of this name in the nearest place that has any."""
    for place in places(folder):
        if found := sorted(one for one in place.glob(pattern) if one.is_file() and not one.name.startswith(".")):
            return found
    return []


def databases_folder(folder: Path, home: Path, names: Sequence[str]) -> Path:
    """Return the folder of databases next to the questions, in the data set's own folder, or between the two.

    Raises UserError when there is none.
    """
    between = [one for one in home.parents if one.is_relative_to(folder)]
    for place in dict.fromkeys((home, *between, folder)):
        for name in names:
            if (place / name).is_dir():
                return place / name
    packed = next((path for name in names if (path := home / f"{name}.zip").is_file()), None)
    todo = f"unpack {packed.name}" if packed is not None else "unpack the databases there"
    raise UserError(
        f"{home} has questions but no databases folder ({' or '.join(names)}): {todo}, or name their folder with "
        "--databases."
    )


def _folders_in(place: Path) -> list[Path]:
    try:
        entries = sorted(place.iterdir())
    except OSError as error:
        raise UserError(f"Can't look into {place} ({error.strerror}): check its permissions.") from None
    # Folders of databases hold a folder each; unpacking leaves names such as __MACOSX.
    return [
        one for one in entries if one.is_dir() and "database" not in one.name and not one.name.startswith((".", "_"))
    ]
