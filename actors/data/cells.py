"""Reads the texts of a database's cells for the search of values, in bounded amounts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import inspect

from actors.data.connections import quoted_name, reading
from actors.data.schemas import ColumnName

MAX_ROWS = 1_000_000  # of a table, that one column's values are taken from
MAX_VALUES = 20_000  # distinct ones of a column
MIN_CHARS, MAX_CHARS = 2, 100  # shorter ones are in every question, longer ones in none


def text_values(database: Path) -> Iterator[tuple[ColumnName, str]]:
    """Distinct texts of each column, the first in the table's order; surrounding space is kept.

    At most MAX_VALUES per column, from the first MAX_ROWS rows of the table. Raises UserError.
    """
    with reading(database) as connection:
        inspector = inspect(connection)
        for table in inspector.get_table_names():
            for column in inspector.get_columns(table):
                name = ColumnName(table, column["name"])
                rows = connection.exec_driver_sql(
                    f"SELECT DISTINCT value FROM (SELECT {quoted_name(name.column)} AS value "
                    f"FROM {quoted_name(table)} NOT INDEXED LIMIT {MAX_ROWS}) WHERE typeof(value) = 'text' "
                    f"AND length(trim(value)) BETWEEN {MIN_CHARS} AND {MAX_CHARS} LIMIT {MAX_VALUES}"
                )
                for (value,) in rows:
                    yield name, value
