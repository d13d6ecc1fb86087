"""Reads tables and columns from the databases of one folder, read-only (sqlite3)."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from floe.reward_service.sandbox.databases import connect_read_only, database_path, file_digest
from floe.reward_service.sandbox.guard import is_of_the_file
from floe.reward_service.verdict import DatabaseUnavailable, message_of

# Table or view -> column -> its declared type, which may be empty; in the database's order and spelling.
Schema = Mapping[str, Mapping[str, str]]

_TABLES = """
SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY rowid
"""
_COLUMNS = "SELECT name, type FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid"


class SchemaReader:
    """Each database's schema, read once for each state of its file; for several threads."""

    def __init__(self, databases_dir: Path) -> None:
        self._databases_dir = databases_dir
        self._known: dict[str, tuple[str, Schema]] = {}  # database id -> digest of the file, schema
        self._lock = threading.Lock()

    def schema(self, database_id: str) -> Schema:
        """Return the schema. Raises DatabaseUnavailable."""
        path = database_path(self._databases_dir, database_id)
        digest = file_digest(path)
        with self._lock:
            known = self._known.get(database_id)
            if known is None or known[0] != digest:
                known = self._known[database_id] = (digest, read_schema(path))
            return known[1]


def read_schema(path: Path) -> Schema:
    """Read tables and views; what SQLite can't describe (a view of a lost table, an unknown module) is left out.

    Raises DatabaseUnavailable.
    """
    schema: dict[str, dict[str, str]] = {}
    try:
        with closing(connect_read_only(path)) as connection:
            connection.text_factory = lambda text: text.decode("utf-8", "replace")
            for (table,) in connection.execute(_TABLES).fetchall():
                try:
                    schema[table] = dict(connection.execute(_COLUMNS, (table,)).fetchall())
                except sqlite3.Error as error:
                    if is_of_the_file(error):
                        raise
    except (sqlite3.Error, OSError) as error:
        reason = message_of(error)
        raise DatabaseUnavailable(f"the schema of {path} can't be read ({reason}): check the file") from error
    return {table: columns for table, columns in schema.items() if columns}
