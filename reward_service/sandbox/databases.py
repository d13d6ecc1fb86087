"""Opens the databases of one folder, read-only and guarded, and keeps the last few open."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from floe.cluster.databases import places as database_places
from floe.cluster.databases.states import broken_off_write, opened, real_file
from floe.configs.errors import UserError
from floe.reward_service.sandbox.fixed_clock import CLOCK_FUNCTIONS, CLOCK_WORDS, FixedClock, calls_for_the_time
from floe.reward_service.sandbox.guard import Authorizer, CpuDeadline, StatementSizes, install_guard, slow_way
from floe.reward_service.verdict import DatabaseUnavailable, message_of

MAX_OPEN = 16  # each may hold 2 MB of pages; a suite has up to 7
LOCK_WAIT_S = 1.0


class Database:
    """One guarded connection to one state of a database file; `digest` names that state."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        digest: str,
        deadline: CpuDeadline,
        authorizer: Authorizer,
        constant: frozenset[str],
    ) -> None:
        """Open it; `constant` are the authorizer's changeable functions that the fixed clock has taken over."""
        self._connection = connection
        self._authorizer = authorizer
        self._constant = constant
        self.digest = digest
        self.deadline = deadline

    def execute(self, sql: str) -> Any:
        """Start `sql` and return the driver's cursor, or None for a statement without columns.

        Raises sqlite3.Error as the driver raised it, or UnicodeError for text that can't be encoded.
        """
        self._authorizer.forget()
        cursor = self._connection.execute(sql)
        return None if cursor.description is None else cursor

    @contextmanager
    def slow_way(self) -> Iterator[None]:
        with slow_way(self._connection, self._authorizer):
            yield

    @property
    def last_used_changeable(self) -> bool:
        """True when the last statement names a function of chance or of the connection, or a clock that goes on."""
        return not self._authorizer.changeable <= self._constant

    def close(self) -> None:
        self._connection.close()


class OpenDatabases:
    """Database files, opened when first asked for; the least recently used are closed."""

    def __init__(self, sizes: StatementSizes, clock: FixedClock) -> None:
        self._sizes = sizes
        self._clock = clock
        self._open: OrderedDict[Path, Database] = OrderedDict()

    def get(self, path: Path) -> Database:
        """Return the open database, opened anew when its file changed. Raises DatabaseUnavailable."""
        digest = file_digest(path)
        database = self._open.get(path)
        if database is None or database.digest != digest:
            self.drop(path)
            database = _open_database(path, digest, self._sizes, self._clock)
            self._open[path] = database
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(path)
        return database

    def known(self, path: Path) -> Database | None:
        """Return the open database, its file unchecked, so that a group sees one state; None when it is not open."""
        return self._open.get(path)

    def drop(self, path: Path) -> None:
        """Close the database, so that the next use opens it anew."""
        if database := self._open.pop(path, None):
            database.close()


def database_path(databases_dir: Path, database_id: str) -> Path:
    """Return the database's file, or where it is expected. Raises DatabaseUnavailable for an id that is no name."""
    try:
        return database_places.database_path(databases_dir, database_id)
    except UserError as error:
        raise DatabaseUnavailable(str(error).removesuffix(".")) from error


def suite_paths(databases_dir: Path, suite_dir: Path | None, database_id: str) -> list[Path]:
    """Return the database itself, then its other contents: each file of its suffix in its folder and
    `<suite_dir>/<id>/`.

    Hidden files don't count: macOS leaves `._name.sqlite` in archives. Raises DatabaseUnavailable for an id that is no
    folder name, and when a folder can't be read.
    """
    main = database_path(databases_dir, database_id)
    own = [main.parent] if database_places.has_own_folder(main) else []
    folders = [*own, *([suite_dir / database_id] if suite_dir is not None else [])]
    try:
        others = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    except OSError as error:
        raise DatabaseUnavailable(
            f"the suite of database {database_id!r} can't be read ({message_of(error)}): check its folder"
        ) from error
    contents = (path for path in others if path.suffix in (".sqlite", main.suffix) and not path.name.startswith("."))
    return [main, *(path for path in contents if path != main)]


def file_digest(path: Path) -> str:
    """Return a name of the file's present state: identity, size and times; hashing a GB would cost each child seconds.

    Raises DatabaseUnavailable when the file is missing or can't be looked at.
    """
    try:
        states = [os.stat(path)]
        if fault := _fault_of(states[0]):
            raise DatabaseUnavailable(f"database file {path} {fault}: check reward's databases folder")
        with suppress(FileNotFoundError):
            states.append(os.stat(f"{real_file(path)}-wal"))
    except (OSError, ValueError) as error:
        raise DatabaseUnavailable(
            f"database file {path} can't be read ({message_of(error)}): check reward's databases folder"
        ) from error
    fields = ((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in states)
    return f"{path} {list(fields)}"


def _fault_of(state: os.stat_result) -> str | None:
    """Say why it can be no database: opening a pipe would wait for ever; SQLite takes an empty file for a database."""
    if not stat.S_ISREG(state.st_mode):
        return "is no regular file"
    return "is empty (0 bytes)" if state.st_size == 0 else None


def _open_database(path: Path, digest: str, sizes: StatementSizes, clock: FixedClock) -> Database:
    deadline, authorizer = CpuDeadline(sizes.max_memory_bytes), Authorizer()
    connection = None
    try:
        connection = connect_read_only(path)
        in_views = _views_ask_for_the_time(connection)
        clock.install(connection, in_views=in_views)
        install_guard(connection, deadline, authorizer, sizes)
    except (sqlite3.Error, OSError) as error:
        if connection is not None:
            connection.close()
        remedy = broken_off_write(path) or "check the file"
        raise DatabaseUnavailable(f"database file {path} can't be opened ({message_of(error)}): {remedy}") from error
    return Database(connection, digest, deadline, authorizer, CLOCK_FUNCTIONS if in_views else frozenset(CLOCK_WORDS))


def _views_ask_for_the_time(connection: sqlite3.Connection) -> bool:
    views = connection.execute("SELECT CAST(sql AS BLOB) FROM sqlite_master WHERE type = 'view'")
    return any(calls_for_the_time((row[0] or b"").decode("utf-8", "replace")) for row in views)


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open a connection that writes nothing to the file nor next to it. Raises sqlite3.Error and OSError."""
    return opened(path, _connected)


def _connected(path: Path, parameter: str) -> sqlite3.Connection:
    # Without an isolation level the driver begins no transaction, so no lock outlives a statement.
    uri = f"file:{quote(str(path))}?mode=ro{parameter}"
    # A cached statement would bypass the authorizer, which records what the statement depends on.
    connection = sqlite3.connect(uri, uri=True, timeout=LOCK_WAIT_S, isolation_level=None, cached_statements=0)
    connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    return connection
