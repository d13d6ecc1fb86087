"""Builds the columns of the demo databases together with the makers of their values."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

from floe.actors.demo.schemas import Column, Kind, Value

FIRST_NAMES = (
    "Amara", "Anton", "Beatriz", "Carlo", "Dana", "Edith", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kira", "Luis",
    "Maeve", "Nils", "Olga", "Pavel", "Rosa", "Samir", "Tessa", "Umar", "Vera", "Wen", "Yusuf", "Zoe",
)  # fmt: skip
LAST_NAMES = (
    "Abara", "Berg", "Costa", "D'Souza", "Engel", "Fischer", "Garcia", "Haddad", "Ivanov", "Jensen", "Kowalski",
    "Larsen", "Moreau", "Nakamura", "O'Brien", "O'Neill", "Petrov", "Quist", "Rossi", "Sato", "Tran", "Weber", "Young",
)  # fmt: skip
# Namesakes are wanted: now and then a query that groups by name must differ from one that groups by id.
COMMON_NAMES = ("Rosa Garcia", "Jonas Berg", "Maeve O'Brien")


def identifier() -> Column:
    """Make the primary key."""
    return Column("id", Kind.ID, ("id",), _number_of_row, "INTEGER")


def foreign(name: str, table: str, num_rows: int, role: str | None = None) -> Column:
    """Make a foreign key that prefers some parents and leaves the last tenth of them without children."""
    used = num_rows - max(1, num_rows // 10)

    def make(rng: Random, row: dict[str, Value]) -> Value:
        return 1 + int(used * rng.random() ** 1.6)

    return Column(name, Kind.FOREIGN, (role or table,), make, "INTEGER", references=table)


def person(name: str = "name", *nouns: str, kind: Kind = Kind.NAME) -> Column:
    """Make a full name, with a few namesakes."""

    def make(rng: Random, row: dict[str, Value]) -> Value:
        if rng.random() < 0.08:
            return rng.choice(COMMON_NAMES)
        return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"

    return Column(name, kind, nouns or (name,), make)


def cross(name: str, heads: tuple[str, ...], tails: tuple[str, ...], *nouns: str) -> Column:
    """Make a name put together from two lists."""

    def make(rng: Random, row: dict[str, Value]) -> Value:
        return f"{rng.choice(heads)} {rng.choice(tails)}"

    return Column(name, Kind.NAME, nouns or (name,), make)


def category(name: str, values: tuple[str, ...], *nouns: str, null_share: float = 0.0) -> Column:
    """Make one of a few texts, the first ones more often."""

    def make(rng: Random, row: dict[str, Value]) -> Value:
        return values[int(len(values) * rng.random() ** 1.3)]

    return Column(name, Kind.CATEGORY, nouns or (name,), make, null_share=null_share)


def number(
    name: str, low: float, high: float, step: float, *nouns: str, kind: Kind = Kind.AMOUNT, null_share: float = 0.0
) -> Column:
    """Make a number; steps are binary fractions, so that sums don't depend on the order of the rows."""
    whole = float(step).is_integer()

    def make(rng: Random, row: dict[str, Value]) -> Value:
        value = low + step * rng.randint(0, int((high - low) / step))
        return int(value) if whole else value

    return Column(name, kind, nouns or (name,), make, "INTEGER" if whole else "REAL", null_share)


def day(name: str, first: str, last: str, *nouns: str, null_share: float = 0.0) -> Column:
    """Make an ISO date between two others."""
    start = date.fromisoformat(first)
    span = (date.fromisoformat(last) - start).days

    def make(rng: Random, row: dict[str, Value]) -> Value:
        return (start + timedelta(days=rng.randint(0, span))).isoformat()

    return Column(name, Kind.DATE, nouns or (name,), make, null_share=null_share)


def later(name: str, than: str, max_days: int, *nouns: str, null_share: float = 0.0) -> Column:
    """Make an ISO date some days after another column of the same row."""

    def make(rng: Random, row: dict[str, Value]) -> Value:
        return (date.fromisoformat(str(row[than])) + timedelta(days=rng.randint(1, max_days))).isoformat()

    return Column(name, Kind.DATE, nouns or (name,), make, null_share=null_share)


def contact(name: str, pattern: str, *nouns: str, null_share: float) -> Column:
    """Make a text with a number in it, such as a telephone number."""

    def make(rng: Random, row: dict[str, Value]) -> Value:
        return pattern.format(rng.randint(1000, 9999))

    return Column(name, Kind.NAME, nouns or (name,), make, null_share=null_share)


def _number_of_row(rng: Random, row: dict[str, Value]) -> Value:
    return row["id"]
