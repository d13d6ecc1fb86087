"""Finds a database's file in a folder of databases, in the same way for all commands and roles."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from floe.configs.errors import UserError

SUFFIXES = (".sqlite", ".sqlite3", ".db")
MAX_DEPTH = 2  # as in BIRD's `train_databases/train_databases/` after unpacking


def database_path(folder: Path, database_id: str) -> Path:
    """Return the database's file, or where it is expected when there is none. Raises UserError."""
    return find_database(folder, database_id) or expected_path(folder, database_id)


def expected_path(folder: Path, database_id: str) -> Path:
    return folder / database_id / f"{database_id}.sqlite"


def find_database(folder: Path, database_id: str) -> Path | None:
    """Return `<id>/<id>.sqlite` in `folder`, or the database in another common layout; None without one.

    Other layouts are: another suffix or case, no separate folder, the only database in the folder `<id>`, or a folder
    of databases within `folder`. Raises UserError for a folder that can't be read, and for an id that would lead out of
    `folder`.
    """
    if not is_plain_name(database_id):
        raise UserError(f"database id {database_id!r} is not the plain name of a folder: correct the data.")
    exact = expected_path(folder, database_id)
    if exact.is_file():
        return exact
    return next((found for place in _places(folder) if (found := _in_place(place, database_id))), None)


def nearest_databases(folder: Path, database_id: str, num_shown: int = 3) -> list[str]:
    """Return the ids of databases in `folder` that look like this one, the nearest first. Raises UserError."""
    entries = [one for place in _places(folder) for one in _entries(place)]
    ids = {one.name for one in entries if one.is_dir()} | {one.stem for one in entries if one.suffix in SUFFIXES}
    plain = {_plain(one): one for one in sorted(ids) if find_database(folder, one) is not None}
    return [plain[one] for one in difflib.get_close_matches(_plain(database_id), plain, n=num_shown)]


def not_a_folder(path: Path) -> str:
    """Return a sentence on a path that was given as the folder of databases and is a file, or missing."""
    if path.is_file() and path.suffix in SUFFIXES:
        return (
            f"The databases folder {path} is a file: give the folder that holds it, {path.parent}, where it is the "
            f"database of the questions with the db_id {path.stem!r}."
        )
    return f"There is no databases folder {path}: give one that holds <db_id>/<db_id>.sqlite."


def has_own_folder(database: Path) -> bool:
    """Return whether the other databases next to it are further contents of its schema, not separate databases."""
    return _plain(database.parent.name) == _plain(database.stem)


def is_plain_name(database_id: str) -> bool:
    """Return whether the id names an entry of a folder and nothing outside of it."""
    return database_id not in ("", ".", "..") and not any(character in database_id for character in "/\\\0")


def _places(folder: Path) -> Iterator[Path]:
    """Return the folder, then the folders of databases in it."""
    level = [folder]
    for _ in range(MAX_DEPTH + 1):
        yield from level
        below = [one for place in level for one in _entries(place) if one.is_dir()]
        level = sorted(one for one in below if "database" in one.name.casefold() or one.name == one.parent.name)


def _in_place(place: Path, database_id: str) -> Path | None:
    homes = _named(place, database_id, is_file=False)
    for home in (*homes, place):
        for suffix in SUFFIXES:
            if found := _named(home, f"{database_id}{suffix}", is_file=True):
                return found[0]
    for home in homes:
        files = [one for one in _entries(home) if one.suffix in SUFFIXES and one.is_file() and one.name[0] != "."]
        if len(files) == 1:
            return files[0]
    return None


def _named(folder: Path, name: str, *, is_file: bool) -> list[Path]:
    """Return entries of this name, an exact one first."""
    wanted = _plain(name)
    found = [one for one in _entries(folder) if _plain(one.name) == wanted and one.is_file() == is_file]
    return sorted(found, key=lambda one: (one.name != name, one.name))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise UserError(f"Can't look into {folder} ({error.strerror}): check its permissions.") from None


def _plain(name: str) -> str:
    """Return the name without regard to case, form of accents and line breaks, which files can't be given by hand."""
    return "".join(one for one in unicodedata.normalize("NFC", name).casefold() if one.isprintable())
