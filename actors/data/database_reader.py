"""Reads tables and texts of users' databases, within a child: any step may be slow, huge or deadly."""

from __future__ import annotations

import math
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.engine import Connection, Inspector
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import NullType

from actors.data.connections import quoted_name, reading
from actors.data.reading_settings import ReadingSettings
from actors.data.schemas import MAX_EXAMPLE_CHARS, literal
from cluster.contained.frames import Frame
from configs.errors import UserError

MAX_SAMPLED_ROWS = 100_000  # of a table, that examples are taken from: a column may hold but one value
MIN_CHARS, MAX_CHARS = 2, 100  # shorter ones are in every question, longer ones in none
PROGRESS_OPCODES = 10_000
_FILE_FAULTS = ("locked", "disk I/O", "malformed", "not a database")  # any other is one table's own


class DatabaseReader:
    """Answers each step of a request by itself: `tables`, `table NAME`, `examples NAME N` or `texts NAME COLUMN`."""

    def __init__(self, settings: ReadingSettings) -> None:
        self._settings = settings
        self._ends_at_s = math.inf

    def run_group(self, request: Frame) -> Iterator[Frame]:
        """Yield a frame for each step, with `value`, its own `fault`, or `file_fault`, which ends the request."""
        steps: Sequence[tuple[int, Sequence]] = request["steps"]
        try:
            with reading(Path(request["database"])) as connection:
                self._guard(connection)
                inspector = inspect(connection)
                for index, step in steps:
                    frame = self._answer(connection, inspector, step)
                    yield {"kind": "step", "index": index, **frame}
                    if "file_fault" in frame:
                        return
        except UserError as fault:
            yield {"kind": "step", "index": steps[0][0], "file_fault": str(fault)}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _guard(self, connection: Connection) -> None:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        # In memory alone: a temporary file would have no bound but the disk's.
        raw.execute("PRAGMA temp_store=MEMORY")
        raw.execute(f"PRAGMA hard_heap_limit={self._settings.max_memory_bytes}")
        raw.set_progress_handler(lambda: time.thread_time() >= self._ends_at_s, PROGRESS_OPCODES)

    def _answer(self, connection: Connection, inspector: Inspector, step: Sequence) -> Frame:
        settings = self._settings
        self._ends_at_s = time.thread_time() + settings.time_limit_s
        signal.setitimer(signal.ITIMER_PROF, settings.hard_limit_s)
        try:
            return {"value": _READERS[step[0]](connection, inspector, settings, *step[1:])}
        except MemoryError:
            return {"fault": f"reading it takes more than {settings.max_memory_bytes:,} bytes of memory"}
        except DBAPIError as error:
            said = str(error.orig)
            if "interrupted" in said:
                return {"fault": f"reading it takes over {settings.time_limit_s:g} s of CPU time"}
            return {"file_fault" if any(one in said for one in _FILE_FAULTS) else "fault": said}


def _tables(connection: Connection, inspector: Inspector, _: ReadingSettings) -> list[str]:
    return inspector.get_table_names()


def _table(connection: Connection, inspector: Inspector, _: ReadingSettings, name: str) -> dict[str, Any]:
    return {
        "columns": [
            (column["name"], "" if isinstance(column["type"], NullType) else str(column["type"]))
            for column in inspector.get_columns(name)
        ],
        "primary_key": list(inspector.get_pk_constraint(name)["constrained_columns"]),
        "foreign_keys": [
            (key["constrained_columns"], key["referred_table"], key["referred_columns"])
            for key in inspector.get_foreign_keys(name)
        ],
    }


def _examples(
    connection: Connection, inspector: Inspector, _: ReadingSettings, table: str, num_examples: int
) -> dict[str, list[str]]:
    """Each column's first distinct values in the table's order, texts cut; no blobs, nothing empty."""
    found = {}
    for column in inspector.get_columns(table):
        # NOT INDEXED: an index would bring its own order, and the examples would hang on it.
        rows = connection.exec_driver_sql(
            f"SELECT DISTINCT CASE typeof(value) WHEN 'text' THEN substr(value, 1, {MAX_EXAMPLE_CHARS}) ELSE value END "
            f"FROM (SELECT {quoted_name(column['name'])} AS value FROM {quoted_name(table)} NOT INDEXED "
            f"LIMIT {MAX_SAMPLED_ROWS}) "
            f"WHERE typeof(value) IN ('text', 'integer', 'real') AND trim(value) != '' LIMIT {num_examples}"
        )
        found[column["name"]] = list(dict.fromkeys(literal(row[0]) for row in rows))
    return found


def _texts(
    connection: Connection, inspector: Inspector, settings: ReadingSettings, table: str, column: str
) -> list[str]:
    """Distinct texts of a column, the first in the table's order; surrounding space is kept."""
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
