"""Reads a database's schema through SQLAlchemy's inspector."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SAWarning, SQLAlchemyError

from configs.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    name: str
    type: str
    examples: tuple[str, ...] = ()  # distinct values as text


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


def read_schema(database: Path, num_examples: int) -> tuple[TableSchema, ...]:
    """Tables in the file's order. Raises UserError when the file can't be read as a database."""
    if not database.is_file():
        raise UserError(f"There is no database {database}: databases are expected at <folder>/<db_id>/<db_id>.sqlite.")
    engine = create_engine(f"sqlite:///file:{database}?mode=ro&uri=true")
    try:
        with warnings.catch_warnings(), engine.connect() as connection:
            # Of foreign keys and types that Spider's schemas declare wrongly: nothing that a user could mend.
            warnings.simplefilter("ignore", SAWarning)
            connection.connection.dbapi_connection.text_factory = lambda raw: raw.decode(errors="replace")  # type: ignore[union-attr]
            inspector = inspect(connection)
            return tuple(_table(connection, inspector, name, num_examples) for name in inspector.get_table_names())
    except SQLAlchemyError as fault:
        raise UserError(
            f"Can't read the schema of {database} ({fault.__cause__ or fault}): is it a SQLite file?"
        ) from fault
    finally:
        engine.dispose()


def _table(connection: Connection, inspector, name: str, num_examples: int) -> TableSchema:
    return TableSchema(
        name=name,
        columns=tuple(
            Column(
                name=column["name"],
                type=str(column["type"]),
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
    if num_examples == 0:
        return ()
    quoted_table, quoted_column = (name.replace('"', '""') for name in (table, column))
    rows = connection.exec_driver_sql(
        f'SELECT DISTINCT "{quoted_column}" FROM "{quoted_table}" '
        f'WHERE "{quoted_column}" IS NOT NULL AND "{quoted_column}" != \'\' LIMIT {num_examples}'
    )
    return tuple(str(row[0])[:40] for row in rows)
