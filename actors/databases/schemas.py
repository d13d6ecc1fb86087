"""A database's tables as prompts show them (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy.dialects.sqlite.base import SQLiteIdentifierPreparer

# Keywords of statements other than queries: within a query they are names like any other.
_OF_OTHER_STATEMENTS = frozenset(
    """after analyze attach before begin cascade column conflict database deferred detach each exclusive explain fail
    ignore immediate initially instead key plan pragma query reindex rename replace restrict rollback row temp
    temporary trigger vacuum view virtual""".split()  # noqa: SIM905
)
# SQLite has reserved two more since SQLAlchemy's list was made.
RESERVED_WORDS = (frozenset(SQLiteIdentifierPreparer.reserved_words) | {"nothing", "returning"}) - _OF_OTHER_STATEMENTS
MAX_EXAMPLE_CHARS = 40
MAX_KEPT_TEXTS = 20_000  # names and types come again with each prompt of their database
_WORDS = r"[^\W\d]\w*(?: [^\W\d]\w*)*"
_NUMBER = r"[+-]?\d[\w.]*"
_PLAIN_TYPE = re.compile(rf"{_WORDS}(?:\[\])?(?: ?\({_NUMBER}(?: ?, ?{_NUMBER})?\))?(?: {_WORDS})?")


class ColumnName(NamedTuple):
    table: str
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    name: str
    type: str  # empty where none is declared
    examples: tuple[str, ...] = ()  # distinct values as SQL literals
    matches: tuple[str, ...] = ()  # values that the question names, as SQL literals
    description: str = ""  # from the comment in its CREATE TABLE statement, or from a file with the database
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
    is_view: bool = False
    is_terse: bool = False  # shown in as few lines as its columns' values allow, where a prompt has to be short


def literal(value: object) -> str:
    """Return a value as a SQL literal on one line, so that text can be told from a number."""
    if isinstance(value, int | float):
        return str(value)
    printable = "".join(one if one.isprintable() else " " for one in str(value))
    return "'" + printable.replace("'", "''") + "'"


def example(value: object) -> str:
    """Return a sampled value as a SQL literal; a long text is cut, and three dots after its literal say so."""
    if isinstance(value, str) and len(value) > MAX_EXAMPLE_CHARS:
        return f"{literal(value[:MAX_EXAMPLE_CHARS])}..."
    return literal(value)


@lru_cache(maxsize=MAX_KEPT_TEXTS)
def shown_name(name: str) -> str:
    """Return a table or column as an identifier that SQLite accepts unchanged."""
    if name.isidentifier() and name.casefold() not in RESERVED_WORDS:
        return name
    return "`" + name.replace("`", "``") + "`"


@lru_cache(maxsize=MAX_KEPT_TEXTS)
def shown_type(declared: str) -> str:
    """Return a type as it was declared, on one line; in quotes where only they allow it there."""
    plain = " ".join(declared.split())
    is_plain = not plain or (_PLAIN_TYPE.fullmatch(plain) and RESERVED_WORDS.isdisjoint(plain.casefold().split()))
    return plain if is_plain else '"' + plain.replace('"', '""') + '"'
