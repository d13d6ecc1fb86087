"""Closes a fresh read-only SQLite connection to everything but reading, and bounds what a statement may cost."""

from __future__ import annotations

import math
import sqlite3
import time
from typing import Any

# Loose enough for every honest query of Spider and BIRD, where SQLite's own guide is too tight.
LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 250_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 10,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,  # a helper thread's CPU time would escape the deadline
}
PROGRESS_OPCODES = 1000  # fewer cost measurable time, more delay the stop
_READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_DENIED_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer"})
_JSON_TABLES = ("json_each", "json_tree")
# Functions whose value the database's bytes and the arguments may not settle (the dates: by 'now' or by no argument).
_CHANGEABLE_FUNCTIONS = frozenset(
    {"random", "randomblob", "changes", "total_changes", "last_insert_rowid"}
    | {"current_date", "current_time", "current_timestamp"}
    | {"date", "time", "datetime", "julianday", "strftime", "unixepoch", "timediff"}
)


class CpuDeadline:
    """A point in this thread's CPU time after which the running statement is stopped."""

    def __init__(self) -> None:
        self._at_s = math.inf

    def arm(self, limit_s: float) -> None:
        self._at_s = time.thread_time() + limit_s

    def disarm(self) -> None:
        self._at_s = math.inf

    def has_passed(self) -> bool:
        return time.thread_time() >= self._at_s


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
        # Full-text tables read this themselves while they are queried.
        if action == sqlite3.SQLITE_PRAGMA and first == "data_version" and second is None:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY


def install_guard(
    connection: sqlite3.Connection, deadline: CpuDeadline, authorizer: Authorizer, max_memory_bytes: int
) -> None:
    """Guards a connection that has been opened and read from. Raises sqlite3.Error where the file is at fault."""
    connection.text_factory = _decode_losslessly
    connection.create_function("regexp", 2, None)  # SQLAlchemy adds one in Python; plain SQLite has none
    connection.execute("PRAGMA query_only=ON")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute(f"PRAGMA hard_heap_limit={max_memory_bytes}")
    _connect_virtual_tables(connection)
    for limit, value in LIMITS.items():
        connection.setlimit(limit, value)
    connection.set_progress_handler(deadline.has_passed, PROGRESS_OPCODES)
    connection.set_authorizer(authorizer)


def _decode_losslessly(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _connect_virtual_tables(connection: sqlite3.Connection) -> None:
    """Uses each virtual table once: its first use declares a table, which the authorizer denies."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%'").fetchall()
    for name in (*_JSON_TABLES, *(row[0] for row in rows)):
        quoted = '"' + name.replace('"', '""') + '"'
        try:
            connection.execute(f"SELECT 1 FROM {quoted} LIMIT 0").fetchall()
        except sqlite3.OperationalError as error:
            # A table whose module this SQLite lacks: a query of it will say so, and no other needs it.
            if "no such module" not in str(error):
                raise
