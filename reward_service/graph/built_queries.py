"""Queries of the databases of one folder as graphs, each built once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from reward_service.bounded_cache import BoundedCache
from reward_service.graph.build import BuiltQuery, build
from reward_service.graph.plan import DatabaseSchema, NoPlan, SyntaxFault, schema_of
from reward_service.schema_reader import SchemaReader

MAX_CACHED_BYTES = 64 * 2**20
BYTES_PER_NODE = 500  # with its edges and hashes, about

Built = BuiltQuery | SyntaxFault | NoPlan


class BuiltQueries:
    """For several threads."""

    def __init__(self, databases_dir: Path) -> None:
        self._reader = SchemaReader(databases_dir)
        self._schemas: dict[str, tuple[int, Mapping[str, object], DatabaseSchema]] = {}
        self._known: BoundedCache[tuple[str, int, str], Built] = BoundedCache(MAX_CACHED_BYTES)
        self._lock = threading.Lock()

    def state(self, database_id: str) -> int:
        """Another number for each schema that the database has had. Raises DatabaseUnavailable."""
        columns = self._reader.schema(database_id)
        with self._lock:
            known = self._schemas.get(database_id)
            if known is None or known[1] is not columns:
                number = known[0] + 1 if known else 0
                known = self._schemas[database_id] = (number, columns, schema_of(columns))
            return known[0]

    def get(self, database_id: str, state: int, sql: str) -> Built:
        """The query's graph and steps, or why it has none. `state` is of this group's start."""
        key = (database_id, state, sql)
        with self._lock:
            found = self._known.get(key)
            schema = self._schemas[database_id][2]
        if found is None:
            try:
                found = build(sql, schema)
            except (SyntaxFault, NoPlan) as error:
                found = error.with_traceback(None)
            num_nodes = len(found.graph.nodes) if isinstance(found, BuiltQuery) else 1
            with self._lock:
                self._known.put(key, found, num_nodes * BYTES_PER_NODE + 2 * len(sql))
        return found
