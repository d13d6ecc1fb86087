"""Opens a database for reading its schema and cells: read-only, lenient with text that is not UTF-8."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import create_engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from floe.cluster.databases.states import broken_off_write, is_empty, opened
from floe.configs.errors import UserError

PROGRESS_OPCODES = 10_000


def bound(connection: Connection, is_over: Callable[[], bool], max_memory_bytes: int) -> None:
    """Stop each statement once `is_over` returns true: it ends as interrupted, and a Ctrl-C ends it at once."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.execute("PRAGMA temp_store=MEMORY")  # a temporary file would be bounded by the disk alone
    raw.execute(f"PRAGMA hard_heap_limit={max_memory_bytes}")
    raw.set_progress_handler(is_over, PROGRESS_OPCODES)


@contextmanager
def reading(database: Path) -> Iterator[Connection]:
    """Open a read-only connection. Raises UserError when the file is missing or can't be read as a database."""
    if not database.is_file():
        raise UserError(f"There is no database {database}: databases are expected at <folder>/<db_id>/<db_id>.sqlite.")
    if is_empty(database):
        raise UserError(f"{database} is empty (0 bytes): copy the database once more.")
    engine = create_engine("sqlite://", creator=lambda: opened(database, _connected), poolclass=StaticPool)
    try:
        with warnings.catch_warnings(), engine.connect() as connection:
            # Warnings about foreign keys that Spider's schemas declare wrongly: nothing that a user could fix.
            warnings.simplefilter("ignore", SAWarning)
            connection.connection.dbapi_connection.text_factory = lambda raw: raw.decode(errors="replace")  # type: ignore[union-attr]
            yield connection
    except SQLAlchemyError as fault:
        reason = broken_off_write(database) or "is it a SQLite file?"
        raise UserError(f"Can't read the schema of {database} ({fault.__cause__ or fault}): {reason}") from fault
    except OSError as fault:
        raise UserError(
            f"Can't read {database} ({fault.strerror}): check the file, and the room for a copy."
        ) from fault
    finally:
        engine.dispose()


def _connected(path: Path, parameter: str) -> sqlite3.Connection:
    # SQLAlchemy would decode a URL's path once more than SQLite does.
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro{parameter}", uri=True)
    connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    return connection
