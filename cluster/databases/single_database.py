"""One database file as a folder of databases, the form that prompts and the reward service read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from floe.actors.databases.database_files import fault_of_file
from floe.actors.prompting.descriptions import FOLDER as DESCRIPTIONS
from floe.configs.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleDatabase:
    databases_dir: Path  # holds `<database_id>/<database_id>.sqlite`
    database_id: str


@contextmanager
def single_database(file: Path) -> Iterator[SingleDatabase]:
    """Make a folder of links for a while, unless the file lies in that form. Raises UserError for no database."""
    path = file.expanduser().resolve()
    if not path.is_file():
        raise UserError(f"There is no database {file}: give a SQLite file.")
    if fault := fault_of_file(path):
        raise UserError(f"{fault}: give a SQLite file.")
    if path.name == f"{path.parent.name}.sqlite":
        yield SingleDatabase(databases_dir=path.parent.parent, database_id=path.parent.name)
        return
    name = path.stem
    with TemporaryDirectory(prefix="floe-ask-") as folder:
        home = Path(folder) / name
        home.mkdir()
        (home / f"{name}.sqlite").symlink_to(path)
        log = path.with_name(f"{path.name}-wal")
        if log.is_file():  # without it the content of a log would be missed
            (home / f"{name}.sqlite-wal").symlink_to(log)
        if (path.parent / DESCRIPTIONS).is_dir():
            (home / DESCRIPTIONS).symlink_to(path.parent / DESCRIPTIONS)
        yield SingleDatabase(databases_dir=Path(folder), database_id=name)
