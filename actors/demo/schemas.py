"""Describes the shape of a demo database: its tables, columns, links and the words questions use for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations
from random import Random

Value = str | int | float | None
Row = tuple[Value, ...]
Rows = dict[str, list[Row]]
# A maker sees the values already made for its row, so that a return can follow its loan.
Maker = Callable[[Random, dict[str, Value]], Value]


class Kind(StrEnum):
    """What a column holds, which decides the questions that can be asked about it."""

    ID = "id"
    FOREIGN = "foreign"
    NAME = "name"
    CATEGORY = "category"
    AMOUNT = "amount"
    LEVEL = "level"
    YEAR = "year"
    DATE = "date"


NUMBERS = frozenset({Kind.AMOUNT, Kind.LEVEL})
ORDERED = NUMBERS | {Kind.YEAR, Kind.DATE}


def plural(noun: str) -> str:
    """Return the plural of a regular English noun."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "sh", "ch", "x")) else "s")


@dataclass(frozen=True)
class Column:
    """A column: `nouns` are the interchangeable words that questions use for it."""

    name: str
    kind: Kind
    nouns: tuple[str, ...]
    make: Maker
    sql_type: str = "TEXT"
    null_share: float = 0.0
    references: str | None = None

    @property
    def nullable(self) -> bool:
        return self.null_share > 0


@dataclass(frozen=True)
class Table:
    """A table: `one` is what a question calls one of its rows."""

    name: str
    one: str
    num_rows: int
    columns: tuple[Column, ...]

    @property
    def has_name(self) -> bool:
        return any(column.kind is Kind.NAME for column in self.columns)

    def create_sql(self) -> str:
        """Return the `CREATE TABLE` statement, with keys declared."""
        parts = []
        for column in self.columns:
            part = f"{column.name} {column.sql_type}"
            if column.kind is Kind.ID:
                part += " PRIMARY KEY"
            elif not column.nullable:
                part += " NOT NULL"
            if column.references:
                part += f" REFERENCES {column.references}(id)"
            parts.append(part)
        return f"CREATE TABLE {self.name} ({', '.join(parts)})"


@dataclass(frozen=True)
class Link:
    """A foreign key: `role` is what a question calls the parent of a child row."""

    child: str
    key: str
    parent: str
    role: str

    @property
    def join_sql(self) -> str:
        return f"JOIN {self.parent} ON {self.child}.{self.key} = {self.parent}.id"


@dataclass(frozen=True)
class Database:
    """One demo database; parents stand before their children in `tables`."""

    db_id: str
    tables: tuple[Table, ...]

    def table(self, name: str) -> Table:
        return next(table for table in self.tables if table.name == name)

    @property
    def links(self) -> tuple[Link, ...]:
        return tuple(
            Link(table.name, column.name, column.references, column.nouns[0])
            for table in self.tables
            for column in table.columns
            if column.references
        )

    @property
    def forks(self) -> tuple[tuple[Link, Link], ...]:
        """Pairs of links from one child to two different parents."""
        return tuple(
            (left, right)
            for left, right in permutations(self.links, 2)
            if left.child == right.child and left.parent != right.parent
        )

    @property
    def chains(self) -> tuple[tuple[Link, Link], ...]:
        """Pairs of links that lead from a child through its parent to the parent's parent."""
        return tuple((low, high) for low, high in permutations(self.links, 2) if low.parent == high.child)

    def make_rows(self, rng: Random) -> Rows:
        """Return all rows, the same for the same state of `rng`."""
        return {
            table.name: [_make_row(table, number, rng) for number in range(table.num_rows)] for table in self.tables
        }


def _make_row(table: Table, number: int, rng: Random) -> Row:
    made: dict[str, Value] = {"id": number + 1}
    for column in table.columns[1:]:
        value = column.make(rng, made)
        made[column.name] = None if rng.random() < column.null_share else value
    return tuple(made[column.name] for column in table.columns)
