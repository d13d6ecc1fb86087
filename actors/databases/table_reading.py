"""Reads what SQLite itself says of a database's tables: the types as declared, the keys, the comments of the DDL."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from floe.actors.databases.ddl_comments import column_comments

HIDDEN = 1  # a column of a virtual table that only the table's own queries have, such as an FTS table's `rank`
NOT_UTF_8 = "\ufffd"  # a character in a name that SQL can't say: SQLite would take the name for a text


class ListedTable(NamedTuple):
    name: str
    is_view: bool


def listed_tables(connection: Connection) -> list[ListedTable]:
    """Return tables by name, then views by name, without the tables in which virtual tables store their data.

    SQLite itself names such shadow tables where it knows the virtual table's module; otherwise tables whose names begin
    with the virtual table's are taken for its shadow tables.
    """
    rows = connection.exec_driver_sql(
        "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
        "ORDER BY name"
    ).all()
    unknown = [name for name, kind in rows if kind == "virtual" and not _is_known(connection, name)]
    shadows = tuple(f"{name}_" for name in unknown)
    tables = [ListedTable(name, False) for name, kind in rows if kind in ("table", "virtual")]
    views = [ListedTable(name, True) for name, kind in rows if kind == "view"]
    return [one for one in tables if not (shadows and one.name.startswith(shadows))] + views


def described_table(connection: Connection, name: str) -> dict[str, Any]:
    """Return `columns` (name, declared type, comment), `primary_key`, `foreign_keys` (own columns, table, its columns).

    The columns that a key refers to are empty where it names none: it refers to the primary key then.
    """
    rows = connection.exec_driver_sql(
        "SELECT name, type, pk FROM pragma_table_xinfo(?) WHERE hidden <> ?", (name, HIDDEN)
    ).all()
    if not rows:
        # A virtual table whose module is missing, and a view over something that is gone, say so only when they are
        # read.
        connection.exec_driver_sql(f"SELECT * FROM {quoted_name(name)} LIMIT 0")
    keys: dict[int, tuple[list[str], str, list[str]]] = {}
    for number, referred, own, other in connection.exec_driver_sql(
        'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq', (name,)
    ):
        key = keys.setdefault(number, ([], referred, []))
        key[0].append(own)
        key[2].extend([] if other is None else [other])
    sql = connection.exec_driver_sql("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (name,))
    comments = column_comments(sql.scalar() or "")
    return {
        "columns": [(column, kind, comments.get(column.casefold(), "")) for column, kind, _ in rows],
        "primary_key": [column for column, _, place in sorted(rows, key=lambda row: row[2]) if place],
        "foreign_keys": list(keys.values()),
    }


def quoted_name(name: str) -> str:
    """Return a table or column as an identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _is_known(connection: Connection, virtual_table: str) -> bool:
    try:
        return bool(connection.exec_driver_sql("SELECT 1 FROM pragma_table_xinfo(?)", (virtual_table,)).first())
    except DBAPIError:
        return False
