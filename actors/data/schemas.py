"""Reads a database's schema through SQLAlchemy's inspector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import inspect
from sqlalchemy.dialects.sqlite.base import SQLiteIdentifierPreparer
from sqlalchemy.engine import Connection, Inspector
from sqlalchemy.exc import OperationalError
from sqlalchemy.types import NullType

from actors.data.connections import quoted_name, reading

RESERVED_WORDS = frozenset(SQLiteIdentifierPreparer.reserved_words)
MAX_EXAMPLE_CHARS = 40
MAX_SAMPLED_ROWS = 100_000  # of a table, that examples are taken from: a column may hold but one value


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


class FoundSchema(NamedTuple):
    """The tables of a database, and a sentence for each that SQLite can't read here."""

    tables: tuple[TableSchema, ...]
    left_out: tuple[str, ...]


def read_schema(database: Path, num_examples: int) -> tuple[TableSchema, ...]:
    """Tables in the file's order. Raises UserError when the file can't be read as a database."""
    return find_schema(database, num_examples).tables


def find_schema(database: Path, num_examples: int) -> FoundSchema:
    """As `read_schema`; one table of an unknown module or collation takes no other along. Raises UserError."""
    tables, left_out = [], []
    with reading(database) as connection:
        inspector = inspect(connection)
        for name in inspector.get_table_names():
            try:
                tables.append(_table(connection, inspector, name, num_examples))
            except OperationalError as fault:
                if "locked" in str(fault.orig) or "disk I/O" in str(fault.orig):
                    raise  # the file's fault, not the table's
                left_out.append(f"table {name!r} of {database} is left out of prompts: {fault.orig}")
    return FoundSchema(tuple(tables), tuple(left_out))


def literal(value: object) -> str:
    """A value as a SQL literal on one line, so that text can be told from a number."""
    if isinstance(value, int | float):
        return str(value)
    printable = "".join(one if one.isprintable() else " " for one in str(value))
    return "'" + printable.replace("'", "''") + "'"


def _table(connection: Connection, inspector: Inspector, name: str, num_examples: int) -> TableSchema:
    return TableSchema(
        name=name,
        columns=tuple(
            Column(
                name=column["name"],
                type="" if isinstance(column["type"], NullType) else str(column["type"]),
                examples=_examples(connection, name, column["name"], num_examples),
            )
            for column in inspector.get_columns(name)
        ),
        primary_key=tuple(inspector.get_pk_constraint(name)["constrained_columns"]),
        foreign_keys=tuple(
            ForeignKey(
                columns=tuple(key["constrained_columns"]),
                table=key["referred_table"],
                referred_columns=tuple(key["referred_columns"]),
            )
            for key in inspector.get_foreign_keys(name)
        ),
    )


def _examples(connection: Connection, table: str, column: str, num_examples: int) -> tuple[str, ...]:
    """The first distinct values in the table's order, texts cut; no blobs, nothing empty."""
    if num_examples == 0:
        return ()
    # NOT INDEXED: an index would bring its own order, and the examples would hang on it.
    rows = connection.exec_driver_sql(
        f"SELECT DISTINCT CASE typeof(value) WHEN 'text' THEN substr(value, 1, {MAX_EXAMPLE_CHARS}) ELSE value END "
        f"FROM (SELECT {quoted_name(column)} AS value FROM {quoted_name(table)} NOT INDEXED LIMIT {MAX_SAMPLED_ROWS}) "
        f"WHERE typeof(value) IN ('text', 'integer', 'real') AND trim(value) != '' LIMIT {num_examples}"
    )
    return tuple(dict.fromkeys(literal(row[0]) for row in rows))
