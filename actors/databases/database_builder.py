"""Makes a database from the text that creates it, within a child: the text may come from anybody."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Callable

from floe.actors.databases.connections import PROGRESS_OPCODES

# What SQLite asks permission for during CREATE TABLE, CREATE VIEW, CREATE INDEX, INSERT and ALTER TABLE; nothing here
# reaches another file.
_ALLOWED = frozenset(
    {
        sqlite3.SQLITE_ALTER_TABLE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_READ,
        sqlite3.SQLITE_REINDEX, sqlite3.SQLITE_SELECT, sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_DROP_VIEW, sqlite3.SQLITE_DROP_INDEX,
    }
)  # fmt: skip


class NotBuilt(Exception):
    """The text is not SQLite's, or holds a statement that is not allowed; the message says which."""


def built_database(text: str, is_over: Callable[[], bool], max_memory_bytes: int) -> str:
    """Return the database's file in base64. Raises NotBuilt, MemoryError and SQLite's errors."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute(f"PRAGMA hard_heap_limit={max_memory_bytes}")
        connection.set_progress_handler(is_over, PROGRESS_OPCODES)
        connection.set_authorizer(_authorize)
        connection.executescript(text)
        connection.set_authorizer(None)
        return base64.b64encode(connection.serialize()).decode()
    except sqlite3.DatabaseError as fault:
        if fault.sqlite_errorcode == sqlite3.SQLITE_AUTH:
            raise NotBuilt("it holds a statement that is neither CREATE nor INSERT") from fault
        raise
    finally:
        connection.close()


def _authorize(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY
