"""Opens a database for reading its schema and cells: read-only, lenient with text that is not UTF-8."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import create_engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from configs.errors import UserError

_WAL_VERSION = b"\x02\x02"  # bytes 18 and 19 of the file's header


@contextmanager
def reading(database: Path) -> Iterator[Connection]:
    """A read-only connection. Raises UserError when the file is missing or can't be read as a database."""
    if not database.is_file():
        raise UserError(f"There is no database {database}: databases are expected at <folder>/<db_id>/<db_id>.sqlite.")
    # SQLAlchemy would decode a URL's path once more than SQLite does.
    uri = f"file:{quote(str(database))}?mode=ro{_immutable(database)}"
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), poolclass=StaticPool)
    try:
        with warnings.catch_warnings(), engine.connect() as connection:
            # Of foreign keys and types that Spider's schemas declare wrongly: nothing that a user could mend.
            warnings.simplefilter("ignore", SAWarning)
            connection.connection.dbapi_connection.text_factory = lambda raw: raw.decode(errors="replace")  # type: ignore[union-attr]
            yield connection
    except SQLAlchemyError as fault:
        raise UserError(
            f"Can't read the schema of {database} ({fault.__cause__ or fault}): is it a SQLite file?"
        ) from fault
    finally:
        engine.dispose()


def quoted_name(name: str) -> str:
    """A table or column as an identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _immutable(database: Path) -> str:
    """Reading a file in WAL mode would create files beside it, unless it is declared immutable: sound without a log."""
    with database.open("rb") as file:
        is_wal_mode = file.read(20)[18:20] == _WAL_VERSION
    return "&immutable=1" if is_wal_mode and not database.with_name(database.name + "-wal").exists() else ""
