"""Decides whether a drafted question has a usable answer in its database."""

from __future__ import annotations

import sqlite3

from floe.actors.demo.filling import Draft
from floe.actors.demo.schemas import Row

MAX_QUERY_CHARS = 210
MAX_ANSWER_ROWS = 120


def run_query(connection: sqlite3.Connection, query: str) -> list[Row]:
    """Return all rows of a query."""
    return connection.execute(query).fetchall()


def run_backwards(connection: sqlite3.Connection, query: str) -> list[Row]:
    """Return all rows of a query while SQLite scans tables backwards, which shows ties that an order leaves open."""
    connection.execute("PRAGMA reverse_unordered_selects = ON")
    try:
        return run_query(connection, query)
    finally:
        connection.execute("PRAGMA reverse_unordered_selects = OFF")


def is_telling(rows: list[Row]) -> bool:
    """Return whether an answer says something: not empty, not only NULLs, not a lone 0."""
    return any(value is not None for row in rows for value in row) and rows != [(0,)]


def accepts(connection: sqlite3.Connection, draft: Draft) -> bool:
    """Return whether the gold is short, telling, free of ties, and unlike every decoy's answer."""
    if len(draft.query) > MAX_QUERY_CHARS:
        return False
    rows = run_query(connection, draft.query)
    if not is_telling(rows) or len(rows) > MAX_ANSWER_ROWS:
        return False
    if draft.probe is not None:
        values = run_query(connection, draft.probe)
        if len(set(values)) < len(values) or (None,) in values:
            return False
    backwards = run_backwards(connection, draft.query)
    same = rows == backwards if "ORDER BY" in draft.query else sorted(map(repr, rows)) == sorted(map(repr, backwards))
    return same and all(set(run_query(connection, decoy)) != set(rows) for decoy in draft.decoys)
