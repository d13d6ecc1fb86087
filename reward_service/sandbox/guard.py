"""Restricts a fresh read-only SQLite connection to reading, and bounds what a statement may cost."""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from floe.reward_service.sandbox.fixed_clock import CLOCK_FUNCTIONS

# Functions and features that no query needs; the limits of a query's size are settings.
LIMITS = {
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 10,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,  # a helper thread's CPU time would escape the deadline
}
PROGRESS_OPCODES = 10_000  # opcodes: a call each 1000 costs 5 % of a short query; the CPU timer bounds longer delays
FILE_LOOK_S = 0.05  # seconds of CPU time between two looks at the temporary files: a look takes some 50 microseconds
DESCRIPTORS_DIR = "/proc/self/fd"
TEMPORARY_FILE_MARK = "/etilqs_"  # SQLite's prefix of their names; the files are unlinked while they are open
_TEMPORARY_FILE_FAULTS = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_GETTEMPPATH, sqlite3.SQLITE_CANTOPEN}
)
_FILE_FAULTS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOTADB})
_READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_DENIED_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer"})
_JSON_TABLES = ("json_each", "json_tree")
# Functions whose value the database's bytes and the arguments may not settle (dates: by 'now' or no argument).
_CHANGEABLE_FUNCTIONS = frozenset(
    {"random", "randomblob", "changes", "total_changes", "last_insert_rowid"} | CLOCK_FUNCTIONS
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementSizes:
    """Limits on the size of a statement and of what it computes."""

    max_memory_bytes: int  # SQLite's heap
    max_cell_bytes: int
    max_sql_bytes: int
    max_expression_depth: int
    max_compound_selects: int
    max_like_pattern_bytes: int

    def limits(self) -> dict[int, int]:
        """Return SQLite's own limits by their numbers."""
        return {
            sqlite3.SQLITE_LIMIT_LENGTH: self.max_cell_bytes,
            sqlite3.SQLITE_LIMIT_SQL_LENGTH: self.max_sql_bytes,
            sqlite3.SQLITE_LIMIT_EXPR_DEPTH: self.max_expression_depth,
            sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: self.max_compound_selects,
            sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: self.max_like_pattern_bytes,
        }


class CpuDeadline:
    """A point in this thread's CPU time after which the running statement is stopped, or earlier by what it writes."""

    def __init__(self, max_file_bytes: int) -> None:
        """Set no time yet; `max_file_bytes` bounds a statement's temporary files together, not each one."""
        self._at_s = math.inf
        self._max_file_bytes = max_file_bytes
        self._files_seen_s = 0.0  # when the files were looked at last
        self.has_filled_files = False

    def set(self, at_s: float) -> None:
        """Set the deadline; `at_s` is on the clock `time.thread_time`."""
        self._at_s = at_s
        self.has_filled_files = False

    def clear(self) -> None:
        self._at_s = math.inf

    def has_passed(self) -> bool:
        now_s = time.thread_time()
        if now_s - self._files_seen_s >= FILE_LOOK_S:
            self._files_seen_s = now_s
            self.has_filled_files = temporary_file_bytes() > self._max_file_bytes
        return self.has_filled_files or now_s >= self._at_s


def temporary_file_bytes() -> int:
    """Return how much SQLite has written into the temporary files that this process has open."""
    num_bytes = 0
    descriptors: list[str] = []
    with suppress(OSError):  # no file handle is left for a look
        descriptors = os.listdir(DESCRIPTORS_DIR)
    for descriptor in descriptors:
        with suppress(OSError):  # the listing's own handle is closed by now
            if TEMPORARY_FILE_MARK in os.readlink(f"{DESCRIPTORS_DIR}/{descriptor}"):
                num_bytes += os.fstat(int(descriptor)).st_size
    return num_bytes


class Authorizer:
    """Allows reading alone; remembers which changeable functions the statements named since the last `forget`."""

    def __init__(self) -> None:
        self.changeable: set[str] = set()

    def forget(self) -> None:
        self.changeable.clear()

    def __call__(self, action: int, first: str | None, second: str | None, *_: Any) -> int:
        if action in _READING:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION:
            name = (second or "").lower()
            if name in _CHANGEABLE_FUNCTIONS:
                self.changeable.add(name)
            return sqlite3.SQLITE_DENY if name in _DENIED_FUNCTIONS else sqlite3.SQLITE_OK
        # Full-text tables read these tables themselves while they are queried.
        if action == sqlite3.SQLITE_PRAGMA and first == "data_version" and second is None:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY


def install_guard(
    connection: sqlite3.Connection, deadline: CpuDeadline, authorizer: Authorizer, sizes: StatementSizes
) -> None:
    """Guard a connection that has been opened and read from. Raises sqlite3.Error where the file is at fault."""
    connection.execute("PRAGMA query_only=ON")
    connection.execute("PRAGMA trusted_schema=ON")  # a view may call the functions of the fixed clock
    connection.execute(f"PRAGMA hard_heap_limit={sizes.max_memory_bytes}")
    _connect_virtual_tables(connection)
    for limit, value in (LIMITS | sizes.limits()).items():
        connection.setlimit(limit, value)
    connection.set_progress_handler(deadline.has_passed, PROGRESS_OPCODES)
    connection.set_authorizer(authorizer)


def is_of_the_file(error: sqlite3.Error) -> bool:
    """Return whether the whole file can't be read now, rather than one object in it."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _FILE_FAULTS


def is_of_the_fast_way(error: sqlite3.Error) -> bool:
    """Return whether the statement may still run under `slow_way`: it met text that is no UTF-8, or a full disk.

    The database itself is never written, so every fault of writing concerns a temporary file.
    """
    return (
        getattr(error, "sqlite_errorcode", None) in _TEMPORARY_FILE_FAULTS
        or "Could not decode to UTF-8" in str(error)  # the driver's own error has no code
    )


@contextmanager
def slow_way(connection: sqlite3.Connection, authorizer: Authorizer) -> Iterator[None]:
    """Decode text losslessly, by a Python call each, and sort in memory alone, with an allocation for each row."""
    connection.text_factory = _decode_losslessly
    _set_temp_store(connection, authorizer, "MEMORY")
    try:
        yield
    finally:
        _set_temp_store(connection, authorizer, "DEFAULT")
        connection.text_factory = str


def _set_temp_store(connection: sqlite3.Connection, authorizer: Authorizer, store: str) -> None:
    connection.set_authorizer(None)
    connection.execute(f"PRAGMA temp_store={store}")
    connection.set_authorizer(authorizer)


def _decode_losslessly(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _connect_virtual_tables(connection: sqlite3.Connection) -> None:
    """Use each virtual table once: its first use declares a table, which the authorizer denies."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%'").fetchall()
    for name in (*_JSON_TABLES, *(row[0] for row in rows)):
        quoted = '"' + name.replace('"', '""') + '"'
        try:
            connection.execute(f"SELECT 1 FROM {quoted} LIMIT 0").fetchall()
        except sqlite3.Error as error:
            # A table whose module or tokenizer this SQLite lacks: a query of it will report that, and no other query
            # needs it.
            if is_of_the_file(error):
                raise
