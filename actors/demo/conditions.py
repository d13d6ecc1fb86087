"""Forms the conditions of demo questions: the SQL test, and the clauses that say it in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from random import Random

from floe.actors.demo.schemas import NUMBERS, Column, Kind, Value


class Form(StrEnum):
    """The kinds of condition."""

    EQUAL = "equal"
    CALLED = "called"
    UNEQUAL = "unequal"
    COMPARE = "compare"
    BETWEEN = "between"
    ONE_OF = "one_of"
    LIKE = "like"
    DAY = "day"
    PERIOD = "period"
    NULL = "null"


@dataclass(frozen=True)
class Condition:
    """A test such as `> 5`, and clauses with `{}` for the column's noun."""

    test: str
    clauses: tuple[str, ...]


@dataclass(frozen=True)
class _Comparison:
    operator: str
    words: tuple[str, ...]


_NUMBER_COMPARISONS = (
    _Comparison(">", ("above", "greater than", "more than")),
    _Comparison("<", ("below", "less than", "smaller than")),
    _Comparison(">=", ("at least",)),
    _Comparison("<=", ("at most",)),
)
_TIME_COMPARISONS = (_Comparison(">", ("after", "later than")), _Comparison("<", ("before", "earlier than")))


def literal(value: Value) -> str:
    """Return the SQL literal of a stored value."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"{value:g}" if isinstance(value, float) else str(value)


def fits(form: Form, column: Column) -> bool:
    """Return whether conditions of this form make sense for the column."""
    contact = column.kind is Kind.NAME and column.nullable
    if form in (Form.CALLED, Form.LIKE):
        return column.kind is Kind.NAME and not contact
    if form in (Form.EQUAL, Form.UNEQUAL, Form.ONE_OF):
        return column.kind is Kind.CATEGORY and not column.nullable
    if form in (Form.COMPARE, Form.BETWEEN):
        return column.kind in NUMBERS or column.kind is Kind.YEAR
    return column.nullable if form is Form.NULL else column.kind is Kind.DATE


def make_condition(form: Form, column: Column, stored: Sequence[Value], rng: Random) -> Condition:
    """Make a random condition whose literals come from the stored values."""
    known = sorted((value for value in stored if value is not None), key=str)
    return _MAKERS[form](column, known, rng)


def _equal(column: Column, known: Sequence[Value], rng: Random) -> Condition:
    value = rng.choice(known)
    return Condition(f"= {literal(value)}", (f"whose {{}} is {value}", f"where the {{}} is {value}"))


def _unequal(column: Column, known: Sequence[Value], rng: Random) -> Condition:
    value = rng.choice(known)
    return Condition(f"!= {literal(value)}", (f"whose {{}} is not {value}", f"whose {{}} is different from {value}"))


def _one_of(column: Column, known: Sequence[Value], rng: Random) -> Condition:
    left, right = rng.sample(sorted({str(value) for value in known}), 2)
    test = f"IN ({literal(left)}, {literal(right)})"
    return Condition(test, (f"whose {{}} is {left} or {right}", f"whose {{}} is either {left} or {right}"))


def _compare(column: Column, known: Sequence[Value], rng: Random) -> Condition:
    value = _inner(known, rng)
    comparison = rng.choice(_TIME_COMPARISONS if column.kind is Kind.YEAR else _NUMBER_COMPARISONS)
    clauses = tuple(f"whose {{}} is {word} {literal(value)}" for word in comparison.words)
    return Condition(f"{comparison.operator} {literal(value)}", clauses)


def _between(column: Column, known: Sequence[Value], rng: Random) -> Condition:
    low, high = sorted(rng.sample(sorted({float(str(value)) for value in known}), 2))
    text = f"{low:g} and {high:g}"
    return Condition(f"BETWEEN {low:g} AND {high:g}", (f"whose {{}} is between {text}", f"with {{}} between {text}"))


def _like(column: Column, known: Sequence[Value], rng: Random) -> Condition:
    value = str(rng.choice(known))
    if rng.random() < 0.5:
        head = value[0]
        return Condition(f"LIKE '{head}%'", (f"whose {{}} starts with {head}", f"whose {{}} begins with {head}"))
    word = value.split()[-1]
    pattern = literal(f"%{word}%")
    return Condition(f"LIKE {pattern}", (f"whose {{}} contains {word}", f"with {word} in the {{}}"))


def _day(column: Column, known: Sequence[Value], rng: Random) -> Condition:
    value = _inner(known, rng)
    comparison = rng.choice(_TIME_COMPARISONS)
    clauses = tuple(f"whose {{}} is {word} {value}" for word in comparison.words)
    return Condition(f"{comparison.operator} {literal(value)}", clauses)


def _period(column: Column, known: Sequence[Value], rng: Random) -> Condition:
    value = str(rng.choice(known))
    if rng.random() < 0.6:
        year = value[:4]
        return Condition(f"LIKE '{year}-%'", (f"whose {{}} is in {year}", f"whose {{}} is in the year {year}"))
    month = date.fromisoformat(value).strftime("%B %Y")
    return Condition(f"LIKE '{value[:7]}-%'", (f"whose {{}} is in {month}", f"whose {{}} falls in {month}"))


def _null(column: Column, known: Sequence[Value], rng: Random) -> Condition:
    if rng.random() < 0.6:
        return Condition("IS NULL", ("whose {} is missing", "with no {}", "whose {} is unknown"))
    return Condition("IS NOT NULL", ("whose {} is not missing", "whose {} is known"))


def _inner(known: Sequence[Value], rng: Random) -> Value:
    """Return a value away from both ends, so that a comparison keeps some rows and drops some."""
    ordered = sorted(known, key=lambda value: (float(value), "") if isinstance(value, int | float) else (0, str(value)))
    return ordered[rng.randint(len(ordered) // 6, len(ordered) * 5 // 6)]


_MAKERS: dict[Form, Callable[[Column, Sequence[Value], Random], Condition]] = {
    Form.EQUAL: _equal,
    Form.CALLED: _equal,
    Form.UNEQUAL: _unequal,
    Form.COMPARE: _compare,
    Form.BETWEEN: _between,
    Form.ONE_OF: _one_of,
    Form.LIKE: _like,
    Form.DAY: _day,
    Form.PERIOD: _period,
    Form.NULL: _null,
}
