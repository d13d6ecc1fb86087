"""Lists the easy question shapes: rows, counts and aggregates of one table."""

from __future__ import annotations

from floe.actors.demo.conditions import Form
from floe.actors.demo.schemas import NUMBERS, ORDERED, Kind
from floe.actors.demo.shapes import Difficulty, Filter, Pick, Scope, Shape
from floe.actors.demo.slots import GROUPED, LISTED, NAMED

_A = Pick("a", "t", LISTED)
_B = Pick("b", "t", LISTED - {Kind.ID})
_GROUP = Pick("a", "t", GROUPED, nullable=False)
_WHO = Pick("a", "t", NAMED, nullable=False)
_N = Pick("n", "t", ORDERED)
_SUMMED = Pick("n", "t", NUMBERS)


def _w(*forms: Form) -> Filter:
    return Filter("w", "t", forms)


def _v(*forms: Form) -> Filter:
    return Filter("v", "t", forms)


_LISTS = (
    Shape(
        "list",
        Difficulty.EASY,
        Scope.TABLE,
        "SELECT {a.sql} FROM {t.sql} WHERE {w.sql}",
        (
            "List the {a.noun} of every {t.one} {w.text}.",
            "What is the {a.noun} of each {t.one} {w.text}?",
            "Show the {a.plural} of all {t.many} {w.text}.",
            "I need the {a.noun} for every {t.one} {w.text}.",
        ),
        (_A,),
        (_w(*Form),),
        ("SELECT {a.sql} FROM {t.sql}",),
    ),
    Shape(
        "list_two",
        Difficulty.EASY,
        Scope.TABLE,
        "SELECT {a.sql}, {b.sql} FROM {t.sql} WHERE {w.sql}",
        (
            "List the {a.noun} and the {b.noun} of every {t.one} {w.text}.",
            "Show {a.noun} and {b.noun} for all {t.many} {w.text}.",
            "For each {t.one} {w.text}, give the {a.noun} and then the {b.noun}.",
        ),
        (_A, _B),
        (_w(Form.EQUAL, Form.COMPARE, Form.DAY, Form.PERIOD),),
        ("SELECT {a.sql}, {b.sql} FROM {t.sql}",),
    ),
    Shape(
        "both",
        Difficulty.EASY,
        Scope.TABLE,
        "SELECT {a.sql} FROM {t.sql} WHERE {w.sql} AND {v.sql}",
        (
            "List the {a.noun} of every {t.one} {w.text} and {v.text}.",
            "What is the {a.noun} of each {t.one} {w.text} and also {v.text}?",
            "Show the {a.plural} of all {t.many} {w.text} and {v.text}.",
        ),
        (_A,),
        (_w(Form.EQUAL), _v(Form.COMPARE, Form.DAY, Form.NULL)),
        ("SELECT {a.sql} FROM {t.sql} WHERE {w.sql}", "SELECT {a.sql} FROM {t.sql} WHERE {v.sql}"),
    ),
    Shape(
        "sorted",
        Difficulty.EASY,
        Scope.TABLE,
        "SELECT {a.sql} FROM {t.sql} WHERE {w.sql} ORDER BY {n.sql}{dir.sql}",
        (
            "List the {a.noun} of every {t.one} {w.text}, ordered by {n.noun} {dir.ordering}.",
            "Show the {a.plural} of the {t.many} {w.text}, sorted by {n.noun} {dir.ordering}.",
            "Sort the {t.many} {w.text} by {n.noun} {dir.ordering} and give the {a.noun} of each.",
        ),
        (_WHO, Pick("n", "t", ORDERED, nullable=False)),
        (_w(Form.EQUAL, Form.COMPARE),),
        ("SELECT {a.sql} FROM {t.sql}",),
        "SELECT {n.sql} FROM {t.sql} WHERE {w.sql}",
    ),
    Shape(
        "distinct",
        Difficulty.EASY,
        Scope.TABLE,
        "SELECT DISTINCT {a.sql} FROM {t.sql} WHERE {w.sql}",
        (
            "List the different {a.plural} of {t.many} {w.text}.",
            "Which different {a.plural} occur among {t.many} {w.text}?",
            "Show each {a.noun} once that occurs among the {t.many} {w.text}.",
        ),
        (_GROUP,),
        (_w(Form.COMPARE, Form.PERIOD),),
        ("SELECT DISTINCT {a.sql} FROM {t.sql}",),
    ),
    Shape(
        "top",
        Difficulty.EASY,
        Scope.TABLE,
        "SELECT {a.sql} FROM {t.sql} ORDER BY {n.sql}{dir.sql} LIMIT {k}",
        (
            "List the {a.noun} of the {k} {t.many} with the {dir.word} {n.noun}.",
            "Which {k} {t.many} have the {dir.word} {n.noun}? Give the {a.noun}.",
            "Show the {a.noun} of the {t.many} ranked by {n.noun} {dir.ordering}, only the first {k}.",
        ),
        (_A, _N),
        (),
        ("SELECT {a.sql} FROM {t.sql} LIMIT {k}",),
        "SELECT {n.sql} FROM {t.sql} ORDER BY {n.sql}{dir.sql} LIMIT {k} + 1",
        (2, 3, 4, 5),
    ),
    Shape(
        "first",
        Difficulty.EASY,
        Scope.TABLE,
        "SELECT {a.sql} FROM {t.sql} ORDER BY {n.sql}{dir.sql} LIMIT 1",
        (
            "What is the {a.noun} of the {t.one} with the {dir.word} {n.noun}?",
            "Give the {a.noun} of the {t.one} that has the {dir.word} {n.noun}.",
            "Find the {t.one} with the {dir.word} {n.noun} and show its {a.noun}.",
        ),
        (_A, _N),
        (),
        ("SELECT {a.sql} FROM {t.sql} LIMIT 1",),
        "SELECT {n.sql} FROM {t.sql} ORDER BY {n.sql}{dir.sql} LIMIT 2",
    ),
)

_NUMBERS = (
    Shape(
        "count",
        Difficulty.EASY,
        Scope.TABLE,
        "SELECT COUNT(*) FROM {t.sql} WHERE {w.sql}",
        (
            "How many {t.many} are there {w.text}?",
            "Count the {t.many} {w.text}.",
            "What is the number of {t.many} {w.text}?",
            "Give the count of all {t.many} {w.text}.",
        ),
        (),
        (_w(Form.EQUAL, Form.COMPARE, Form.DAY, Form.PERIOD, Form.NULL, Form.ONE_OF, Form.BETWEEN),),
        ("SELECT COUNT(*) FROM {t.sql}",),
    ),
    Shape(
        "count_distinct",
        Difficulty.EASY,
        Scope.TABLE,
        "SELECT COUNT(DISTINCT {a.sql}) FROM {t.sql} WHERE {w.sql}",
        (
            "How many different {a.plural} are there among {t.many} {w.text}?",
            "Count the distinct {a.plural} of {t.many} {w.text}.",
            "What is the number of different {a.plural} of the {t.many} {w.text}?",
        ),
        (Pick("a", "t", frozenset({Kind.CATEGORY, Kind.NAME}), nullable=False),),
        (_w(Form.COMPARE, Form.PERIOD),),
        ("SELECT COUNT(*) FROM {t.sql} WHERE {w.sql}", "SELECT COUNT(DISTINCT {a.sql}) FROM {t.sql}"),
    ),
    Shape(
        "aggregate",
        Difficulty.EASY,
        Scope.TABLE,
        "SELECT {fn.sql}({n.sql}) FROM {t.sql} WHERE {w.sql}",
        (
            "What is the {fn.word} {n.noun} of {t.many} {w.text}?",
            "Find the {fn.word} {n.noun} over all {t.many} {w.text}.",
            "Give the {fn.word} {n.noun} for the {t.many} {w.text}.",
        ),
        (_N,),
        (_w(Form.EQUAL, Form.COMPARE, Form.PERIOD),),
        ("SELECT {fn.sql}({n.sql}) FROM {t.sql}",),
    ),
    Shape(
        "span",
        Difficulty.EASY,
        Scope.TABLE,
        "SELECT MIN({n.sql}), MAX({n.sql}) FROM {t.sql} WHERE {w.sql}",
        (
            "What are the minimum and the maximum {n.noun} of {t.many} {w.text}?",
            "Show the smallest and then the largest {n.noun} among {t.many} {w.text}.",
            "Give the lowest and the highest {n.noun} of the {t.many} {w.text}.",
        ),
        (_SUMMED,),
        (_w(Form.EQUAL),),
        ("SELECT MIN({n.sql}), MAX({n.sql}) FROM {t.sql}",),
    ),
)

EASY = _LISTS + _NUMBERS
