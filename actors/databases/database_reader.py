"""Reads tables and texts of users' databases, within a child: any step may be slow, huge or deadly."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from floe.actors.databases.connections import bound, reading
from floe.actors.databases.database_builder import NotBuilt, built_database
from floe.actors.databases.reading_settings import ReadingSettings
from floe.actors.databases.schemas import MAX_EXAMPLE_CHARS, example
from floe.actors.databases.table_reading import (
    HIDDEN,
    NOT_UTF_8,
    ListedTable,
    described_table,
    listed_tables,
    quoted_name,
)
from floe.cluster.contained.frames import Frame
from floe.cluster.databases.states import real_file
from floe.configs.errors import UserError

MAX_SAMPLED_ROWS = 100_000  # rows of a table from which examples are taken: a column may hold one value alone
MAX_FEW_VALUES = 5  # a column of at most so many is a choice; a question may mean one without naming it
MIN_REPEATS = 3  # rows per value on average; otherwise every column of a small table would be such a choice
MIN_CHARS, MAX_CHARS = 1, 100  # longer texts stand in no question
# Any other error concerns one table alone; the other tables of a damaged file may be whole.
_FILE_FAULTS = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN}
)


class DatabaseReader:
    """Answers each step of a request by itself: `tables`, `table NAME`, `examples NAME N` or `texts NAME COLUMN`.

    A request without a database has steps `build TEXT`.
    """

    def __init__(self, settings: ReadingSettings) -> None:
        self._settings = settings
        self._ends_at_s = math.inf
        self._databases = ExitStack()
        self._open: tuple[tuple[str, object], Connection] | None = None

    def run_group(self, request: Frame) -> Iterator[Frame]:
        """Yield a frame for each step, with `value`, its own `fault`, or `file_fault`, which ends the request."""
        steps: Sequence[tuple[int, Sequence[Any]]] = request["steps"]
        try:
            connection = self._opened(Path(request["database"])) if request["database"] else None
            for index, step in steps:
                frame = self._answer(connection, step)
                yield {"kind": "step", "index": index, **frame}
                if "file_fault" in frame:
                    return
        except UserError as fault:
            yield {"kind": "step", "index": steps[0][0], "file_fault": str(fault)}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _opened(self, database: Path) -> Connection:
        """Return the database in its present state, kept open for the next request of it. Raises UserError."""
        key = str(database), _state(database)
        if self._open is None or self._open[0] != key:
            self._databases.close()
            self._open = None
            connection = self._databases.enter_context(reading(database))
            bound(connection, self._is_over, self._settings.max_memory_bytes)
            self._open = key, connection
        return self._open[1]

    def _answer(self, connection: Connection | None, step: Sequence[Any]) -> Frame:
        settings = self._settings
        self._ends_at_s = time.thread_time() + settings.time_limit_s
        signal.setitimer(signal.ITIMER_PROF, settings.hard_limit_s)
        try:
            if connection is None:
                return {"value": built_database(step[1], self._is_over, settings.max_memory_bytes)}
            return {"value": _READERS[step[0]](connection, settings, *step[1:])}
        except MemoryError:
            return {"fault": f"reading it takes more than {settings.max_memory_bytes:,} bytes of memory"}
        except NotBuilt as fault:
            return {"fault": str(fault)}
        except (DBAPIError, sqlite3.Error) as error:
            cause = getattr(error, "orig", error)
            code = (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF
            if code == sqlite3.SQLITE_INTERRUPT:
                return {"fault": f"reading it takes over {settings.time_limit_s:g} s of CPU time"}
            return {"file_fault" if code in _FILE_FAULTS and connection is not None else "fault": str(cause)}

    def _is_over(self) -> bool:
        return time.thread_time() >= self._ends_at_s


def _state(database: Path) -> object:
    """Return what changes with the file or its log; None where there is no file, which opening it will report."""
    try:
        found = [os.stat(one) for one in (database, f"{real_file(database)}-wal") if os.path.exists(one)]
        return [(one.st_ino, one.st_size, one.st_mtime_ns) for one in found]
    except OSError:
        return None


def _tables(connection: Connection, _: ReadingSettings) -> list[ListedTable]:
    return listed_tables(connection)


def _table(connection: Connection, _: ReadingSettings, name: str) -> dict[str, Any]:
    return described_table(connection, name)


def _examples(connection: Connection, _: ReadingSettings, table: str, num_examples: int) -> dict[str, list[str]]:
    """Return each column's first distinct values in the table's order, long texts cut; no blobs, nothing empty.

    A column with few values that come again and again is returned with all of them.
    """
    found = {}
    for (name,) in connection.exec_driver_sql(
        "SELECT name FROM pragma_table_xinfo(?) WHERE hidden <> ?", (table, HIDDEN)
    ).all():
        if NOT_UTF_8 in name:
            continue
        # NOT INDEXED: an index would bring its own order, and the examples would depend on it.
        cells = (
            "SELECT CASE typeof(value) WHEN 'text' "
            f"THEN substr(value, 1, {MAX_EXAMPLE_CHARS + 1}) ELSE value END AS value "
            f"FROM (SELECT {quoted_name(name)} AS value FROM {quoted_name(table)} NOT INDEXED "
            f"LIMIT {MAX_SAMPLED_ROWS}) WHERE typeof(value) IN ('text', 'integer', 'real') AND trim(value) != ''"
        )
        limit = max(num_examples, MAX_FEW_VALUES + 1)
        values = [row[0] for row in connection.exec_driver_sql(f"SELECT DISTINCT value FROM ({cells}) LIMIT {limit}")]
        if num_examples < len(values) <= MAX_FEW_VALUES:
            enough = MIN_REPEATS * len(values)
            num_cells = connection.exec_driver_sql(f"SELECT count(*) FROM ({cells} LIMIT {enough})").scalar()
            values = values if num_cells == enough else values[:num_examples]
        else:
            values = values[:num_examples]
        found[name] = list(dict.fromkeys(example(value) for value in values))
    return found


def _texts(connection: Connection, settings: ReadingSettings, table: str, column: str) -> list[str]:
    """Return distinct texts of a column, the first ones in the table's order; surrounding space is kept."""
    if NOT_UTF_8 in column:
        return []
    rows = connection.exec_driver_sql(
        f"SELECT DISTINCT value FROM (SELECT {quoted_name(column)} AS value FROM {quoted_name(table)} NOT INDEXED "
        f"LIMIT {settings.max_text_rows}) WHERE typeof(value) = 'text' "
        f"AND length(trim(value)) BETWEEN {MIN_CHARS} AND {MAX_CHARS} LIMIT {settings.max_texts}"
    )
    return [value for (value,) in rows]


_READERS: Mapping[str, Callable[..., Any]] = {
    "tables": _tables,
    "table": _table,
    "examples": _examples,
    "texts": _texts,
}
