"""A database's tables as prompts show them (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy.dialects.sqlite.base import SQLiteIdentifierPreparer

RESERVED_WORDS = frozenset(SQLiteIdentifierPreparer.reserved_words)
MAX_EXAMPLE_CHARS = 40


class ColumnName(NamedTuple):
    table: str
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    name: str
    type: str  # empty where none is declared
    examples: tuple[str, ...] = ()  # distinct values as SQL literals
    matches: tuple[str, ...] = ()  # values that the question names, as SQL literals
    description: str = ""
    value_description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    columns: tuple[str, ...]
    table: str
    referred_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSchema:
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    foreign_keys: tuple[ForeignKey, ...]


def literal(value: object) -> str:
    """A value as a SQL literal on one line, so that text can be told from a number."""
    if isinstance(value, int | float):
        return str(value)
    printable = "".join(one if one.isprintable() else " " for one in str(value))
    return "'" + printable.replace("'", "''") + "'"
