"""Reads queries that models have written in a process that can be killed; each is read once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from floe.cluster.contained.process import ContainedProcess, ProcessUnavailable
from floe.cluster.contained.runs import run_all
from floe.configs.errors import UserError
from floe.reward_service.bounded_cache import BoundedCache
from floe.reward_service.graph.build import BuiltQuery
from floe.reward_service.reading.forms import Form, Unreadable
from floe.reward_service.reading.reading_run import ReadingRun
from floe.reward_service.reading.schema_reader import Schema
from floe.reward_service.reading.settings import WALL_LIMIT_S, ReaderSettings
from floe.reward_service.sandbox.databases import database_path, file_digest
from floe.reward_service.verdict import DatabaseUnavailable, message_of

MAX_CACHED_BYTES = 64 * 2**20
SCHEMA_LIMIT_S, SCHEMA_MEMORY_BYTES = 60.0, 2**30
BYTES_PER_NODE = 500  # bytes of a node with its edges and hashes, about
BYTES_PER_CHARACTER = 20  # bytes of a query whose parts are kept, about


class ContainedReader:
    """Reads queries for several threads, which take turns."""

    def __init__(self, form: str, databases_dir: Path, time_limit_s: float, max_memory_bytes: int) -> None:
        """Start no process yet; `form` is `parts` or `graph`."""
        self._databases_dir = databases_dir.expanduser().absolute()
        self._settings = ReaderSettings(
            form=form,
            databases_dir=str(self._databases_dir),
            time_limit_s=time_limit_s,
            max_memory_bytes=max_memory_bytes,
        )
        self._process = ContainedProcess(self._settings, WALL_LIMIT_S)
        self._known: BoundedCache[tuple[str, str], Form] = BoundedCache(MAX_CACHED_BYTES)
        self._lock = threading.Lock()
        self.num_faults = 0  # texts that could not be read within the limits, or on which the parser failed

    def read(self, database_id: str, texts: Iterable[str]) -> Mapping[str, Form]:
        """Return the form that each text is read as. Raises DatabaseUnavailable, also where the reader itself fails."""
        state = file_digest(database_path(self._databases_dir, database_id))
        with self._lock:
            asked = list(dict.fromkeys(texts))
            found = {sql: form for sql in asked if (form := self._known.get((state, sql))) is not None}
            missing = [sql for sql in asked if sql not in found]
            if missing:
                found |= self._read(database_id, state, missing)
            return found

    def schema(self, database_id: str) -> Schema:
        """Return the tables and views of the database. Raises UserError."""
        try:
            with self._lock:
                return self._run(ReadingRun(database_id, (), self._settings.time_limit_s)).schema
        except DatabaseUnavailable as fault:
            raise UserError(f"The schema of database '{database_id}' can't be read ({fault}).") from fault

    @classmethod
    def for_schemas(cls, databases_dir: Path) -> Self:
        """Return a reader of schemas alone, for uses outside of a run."""
        return cls("parts", databases_dir, SCHEMA_LIMIT_S, SCHEMA_MEMORY_BYTES)

    def close(self) -> None:
        """End the process; a later call would start another."""
        with self._lock:
            self._process.close()

    def _read(self, database_id: str, state: str, texts: list[str]) -> dict[str, Form]:
        run = self._run(ReadingRun(database_id, texts, self._settings.time_limit_s))
        found = {texts[index]: form for index, form in run.forms.items()}
        for sql, form in found.items():
            self._known.put((state, sql), form, _num_bytes(sql, form))
            if isinstance(form, Unreadable) and form.is_fault:
                self.num_faults += 1
        return found

    def _run(self, run: ReadingRun) -> ReadingRun:
        try:
            run_all(self._process, [run])
        except ProcessUnavailable as error:
            raise DatabaseUnavailable(message_of(error)) from error
        if run.unavailable is not None:
            raise DatabaseUnavailable(run.unavailable)
        return run


def _num_bytes(sql: str, form: Form) -> int:
    if isinstance(form, BuiltQuery):
        return len(form.graph.nodes) * BYTES_PER_NODE + 2 * len(sql)
    return BYTES_PER_NODE + BYTES_PER_CHARACTER * len(sql)
