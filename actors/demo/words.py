"""Holds the words that the format strings of question shapes read."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from floe.actors.demo.conditions import Condition
from floe.actors.demo.schemas import Column, Kind, Table, plural


@dataclass(frozen=True)
class TableWords:
    """A table and what the question calls its rows."""

    sql: str
    one: str
    many: str
    a_one: str


@dataclass(frozen=True)
class ColumnWords:
    """A column; `bare` is its name where no other table is in sight."""

    sql: str
    bare: str
    noun: str
    plural: str


@dataclass(frozen=True)
class FilterWords:
    """A condition and the clause that says it."""

    sql: str
    bare: str
    text: str


@dataclass(frozen=True)
class OptionWords:
    """A SQL word, the word for it, and the words for an ordered list's direction."""

    sql: str
    word: str
    ordering: str


@dataclass(frozen=True)
class Option:
    """A SQL word with every word for it."""

    sql: str
    words: tuple[str, ...]
    ordering: str = ""

    def speak(self, rng: Random) -> OptionWords:
        return OptionWords(self.sql, rng.choice(self.words), self.ordering)


RELATIONS = (Option(">", ("higher", "larger"), "above"), Option("<", ("lower", "smaller"), "below"))
_TIME_FUNCTIONS = (Option("MAX", ("latest",)), Option("MIN", ("earliest",)))
_LEVEL_FUNCTIONS = (
    Option("MAX", ("highest", "maximum")),
    Option("MIN", ("lowest", "minimum")),
    Option("AVG", ("average", "mean")),
)
_AMOUNT_FUNCTIONS = (*_LEVEL_FUNCTIONS, Option("SUM", ("total",)))
_TIME_DIRECTIONS = (
    Option(" DESC", ("latest", "most recent"), "from latest to earliest"),
    Option("", ("earliest",), "from earliest to latest"),
)
_NUMBER_DIRECTIONS = (
    Option(" DESC", ("highest", "largest"), "from high to low"),
    Option("", ("lowest", "smallest"), "from low to high"),
)


def functions(column: Column | None) -> tuple[Option, ...]:
    """Return the aggregates that make sense for the column."""
    if column is not None and column.kind in (Kind.DATE, Kind.YEAR):
        return _TIME_FUNCTIONS
    return _LEVEL_FUNCTIONS if column is not None and column.kind is Kind.LEVEL else _AMOUNT_FUNCTIONS


def directions(column: Column | None) -> tuple[Option, ...]:
    """Return both ways to sort by the column."""
    return _TIME_DIRECTIONS if column is not None and column.kind in (Kind.DATE, Kind.YEAR) else _NUMBER_DIRECTIONS


def table_words(table: Table, called: str) -> TableWords:
    """Return the words for a table whose rows the question calls `called`."""
    article = "an" if called[0] in "aeiou" else "a"
    return TableWords(table.name, called, plural(called), f"{article} {called}")


def column_words(sql: str, bare: str, noun: str) -> ColumnWords:
    """Return the words for a column."""
    head, of, rest = noun.partition(" of ")
    return ColumnWords(sql, bare, noun, plural(head) + of + rest)


def filter_words(condition: Condition, sql: str, bare: str, noun: str, rng: Random) -> FilterWords:
    """Return the condition on a column, said in one of its ways."""
    clause = rng.choice(condition.clauses).format(noun)
    return FilterWords(f"{sql} {condition.test}", f"{bare} {condition.test}", clause)
