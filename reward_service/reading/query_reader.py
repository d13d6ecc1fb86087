"""Reads the queries of groups, inside a child: a schema, then one text after the other, each within its time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

from floe.cluster.contained.frames import Frame
from floe.reward_service.reading.forms import Form, Read, Unreadable, encoded, reader_of
from floe.reward_service.reading.schema_reader import Schema, SchemaReader
from floe.reward_service.reading.settings import ReaderSettings
from floe.reward_service.verdict import DatabaseUnavailable, message_of

MAX_SCHEMAS = 256
SCHEMA_LIMIT_S = 60.0  # seconds of CPU time to open a database, which may mean copying it, and to read its tables


class QueryReader:
    """Reads queries with the schemas of one child."""

    def __init__(self, settings: ReaderSettings) -> None:
        self._settings = settings
        self._schemas = SchemaReader(Path(settings.databases_dir))
        self._readers: dict[str, tuple[Schema, Read]] = {}

    def run_group(self, request: Frame) -> Iterator[Frame]:
        """Yield one `schema` frame, and when it holds no `fault` one `text` frame for each of `texts`."""
        try:
            signal.setitimer(signal.ITIMER_PROF, max(SCHEMA_LIMIT_S, self._settings.time_limit_s))
            try:
                read = self._reader(request["database_id"])
            except DatabaseUnavailable as error:
                yield {"kind": "schema", "fault": message_of(error)}
                return
            frame: Frame = {"kind": "schema"}
            if request["with_schema"]:
                frame["schema"] = self._schemas.schema(request["database_id"])
            yield frame
            for index, sql in request["texts"]:
                self._start_timer()
                yield {"kind": "text", "index": index, "form": encoded(_read(read, sql))}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _start_timer(self) -> None:
        """End this process when the next piece of work takes more CPU time."""
        signal.setitimer(signal.ITIMER_PROF, self._settings.time_limit_s)

    def _reader(self, database_id: str) -> Read:
        """Return the database's reader. Raises DatabaseUnavailable."""
        schema = self._schemas.schema(database_id)
        known = self._readers.get(database_id)
        if known is None or known[0] is not schema:
            if len(self._readers) >= MAX_SCHEMAS:
                self._readers.pop(next(iter(self._readers)))
            known = self._readers[database_id] = (schema, reader_of(self._settings.form, schema))
        return known[1]


def _read(read: Read, sql: str) -> Form:
    try:
        return read(sql)
    except MemoryError:
        raise  # the child ends, and this text gets the blame
    except Exception as error:  # a fault of the parser on this text alone
        return Unreadable("fault", f"{type(error).__name__}: {error}", is_fault=True)
