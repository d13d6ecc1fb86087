"""SQLite files made of databases of other kinds: each is built once and kept by what it was made of."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from xxhash import xxh3_128_hexdigest

from floe.actors.databases.database_files import content_digest, fault_of_file
from floe.actors.sources import csv_database
from floe.actors.sources.interface import DatabaseKind
from floe.cluster.databases.places import is_plain_name
from floe.configs.errors import UserError, first_line
from floe.configs.files.home_folder import make_writable
from floe.configs.plugins.faults import place_of
from floe.configs.plugins.kinds import DATABASE_KINDS
from floe.configs.plugins.making import made, source_files
from floe.configs.schema import DataSection

FOLDER = "built_databases"  # in run.home
DESCRIPTIONS = "database_description"  # a folder with a database, which prompts read

Note = Callable[[str], None]
T = TypeVar("T")


class BuiltDatabases:
    """Makes the SQLite files of a run's databases."""

    def __init__(self, data: DataSection, home_dir: Path, plugin_folder: Path | None, note: Note) -> None:
        """Make the kind; `note` gets a line when something is built. Raises ConfigError."""
        self._name = data.database_kind
        self._who = f"{DATABASE_KINDS.key} is {data.database_kind!r}"
        self._home = home_dir / FOLDER
        self._note = note
        self._kind: DatabaseKind
        files: tuple[Path, ...]
        if data.database_kind == "csv":
            self._kind, files = csv_database.CsvDatabases(), (Path(csv_database.__file__),)
        else:
            self._kind = made(DATABASE_KINDS, data.database_kind, data.database_arguments, plugin_folder)
            files = source_files(DATABASE_KINDS, data.database_kind, plugin_folder)
        code = [(one.name, content_digest(one)) for one in files]
        self._recipe = repr((self._name, sorted(data.database_arguments.items()), code))

    def folder(self, databases_dir: Path, database_ids: Sequence[str], named_by: str) -> Path:
        """Return a folder of `<db_id>/<db_id>.sqlite` for databases in `databases_dir`. Raises UserError.

        `named_by` is what names the databases, for a sentence on one that is missing.
        """
        sources = {one: found for one in database_ids if (found := self._found(databases_dir, one)) is not None}
        if missing := [one for one in database_ids if one not in sources]:
            raise UserError(
                f"{len(missing)} databases of {named_by} are not in {databases_dir}, the first is {missing[0]!r}: "
                f"{self._who}, and it finds none of that name; add it, or correct the folder."
            )
        files = self._files(sources)
        return self._linked(sources, files)

    def file(self, source: Path, database_id: str) -> Path:
        """Return the SQLite file of one database. Raises UserError."""
        return self._files({database_id: source})[database_id]

    def _found(self, databases_dir: Path, database_id: str) -> Path | None:
        if not is_plain_name(database_id):
            raise UserError(f"database id {database_id!r} is not the plain name of a folder: correct the data.")
        found = self._called("find", lambda: self._kind.find(databases_dir, database_id))
        if found is not None and not (isinstance(found, Path) and found.exists()):
            raise UserError(
                f"{self._who}, whose find(...) returned {found!r} for {database_id!r}: return the path of a file or "
                "folder that there is, or None."
            )
        return found.resolve() if found is not None else None

    def _files(self, sources: Mapping[str, Path]) -> dict[str, Path]:
        """Return each database's file, after building those that are not there."""
        places = {one: self._home / _digest(self._recipe, one, *_contents(path)) for one, path in sources.items()}
        files = {one: place / f"{one}.sqlite" for one, place in places.items()}
        lacking = [one for one, file in files.items() if not file.is_file()]
        if lacking:
            make_writable(self._home)
        for number, database_id in enumerate(lacking, start=1):
            self._note(f"building database {number} of {len(lacking)}, kind {self._name}: {database_id}")
            self._build(sources[database_id], files[database_id])
        return files

    def _build(self, source: Path, file: Path) -> None:
        writer = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
        beside = file.parent.with_name(f"{file.parent.name}.writing-{writer}")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        try:
            self._called("build", lambda: self._kind.build(source, beside / file.name))
            if fault := _fault_of_built(beside / file.name):
                raise UserError(f"{self._who}, which was to build a database of {source}, but {fault}: correct it.")
            for other in [one for one in beside.iterdir() if one.name != file.name]:
                other.unlink()
            beside.rename(file.parent)
        except OSError as fault:
            if fault.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another process has built the same
                raise UserError(
                    f"Can't write {file.parent} ({fault.strerror}): check the disk, or set run.home elsewhere."
                ) from fault
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _linked(self, sources: Mapping[str, Path], files: Mapping[str, Path]) -> Path:
        """Return a folder that is the same for the same files, with a link to each."""
        entries = [(one, str(sources[one]), files[one].parent.name) for one in sorted(files)]
        folder = self._home / "sets" / _digest(*map(repr, entries))
        for database_id, file in files.items():
            place = folder / database_id
            place.mkdir(parents=True, exist_ok=True)
            _link(place / file.name, file)
            descriptions = sources[database_id] / DESCRIPTIONS
            if descriptions.is_dir():
                _link(place / DESCRIPTIONS, descriptions)
        return folder

    def _called(self, name: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except UserError:
            raise
        except (Exception, SystemExit) as fault:
            raise UserError(
                f"{self._who}, whose {name}(...) raised {type(fault).__name__} ({first_line(fault)}) at "
                f"{place_of(fault)}: correct it, or the database."
            ) from fault


def _contents(path: Path) -> list[str]:
    """Return names and digests of all files of a source. Raises UserError for one that can't be read."""
    try:
        files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
        return [f"{'' if one == path else one.relative_to(path).as_posix()} {content_digest(one)}" for one in files]
    except OSError as fault:
        raise UserError(f"Can't read {fault.filename or path} ({fault.strerror}): check its permissions.") from fault


def _fault_of_built(file: Path) -> str | None:
    if not file.exists():
        return "build(...) has written no file"
    if fault := fault_of_file(file):
        return fault
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
    except sqlite3.Error as fault:
        return f"SQLite can't read the file ({fault})"
    return None if found else "the file has no table"


def _link(place: Path, target: Path) -> None:
    try:
        place.symlink_to(target)
    except FileExistsError:
        return  # from an earlier start: the folder's name says what it leads to


def _digest(*parts: str) -> str:
    return xxh3_128_hexdigest("\0".join(parts).encode("utf-8", "surrogatepass"))
