"""Lists the harder question shapes over one table: groups, nested queries and set operations."""

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


_GROUPS = (
    Shape(
        "group_count",
        Difficulty.MEDIUM,
        Scope.TABLE,
        "SELECT {a.sql}, COUNT(*) FROM {t.sql} WHERE {w.sql} GROUP BY {a.sql}",
        (
            "For each {a.noun}, show the {a.noun} and how many {t.many} {w.text} it has.",
            "Count the {t.many} {w.text} per {a.noun}. Show the {a.noun} and the count.",
            "Show every {a.noun} with its number of {t.many} {w.text}.",
        ),
        (_GROUP,),
        (_w(Form.COMPARE, Form.PERIOD, Form.DAY),),
        ("SELECT {a.sql}, COUNT(*) FROM {t.sql} GROUP BY {a.sql}",),
    ),
    Shape(
        "group_aggregate",
        Difficulty.MEDIUM,
        Scope.TABLE,
        "SELECT {a.sql}, {fn.sql}({n.sql}) FROM {t.sql} GROUP BY {a.sql}",
        (
            "Show each {a.noun} and the {fn.word} {n.noun} of its {t.many}.",
            "What is the {fn.word} {n.noun} of {t.many} per {a.noun}? Show the {a.noun} and the value.",
            "For every {a.noun} of {t.many}, give the {a.noun} and the {fn.word} {n.noun}.",
        ),
        (_GROUP, _N),
    ),
    Shape(
        "having",
        Difficulty.MEDIUM,
        Scope.TABLE,
        "SELECT {a.sql} FROM {t.sql} WHERE {w.sql} GROUP BY {a.sql} HAVING COUNT(*) > {k}",
        (
            "Which {a.plural} have more than {k} {t.many} {w.text}?",
            "List every {a.noun} that occurs more than {k} times among {t.many} {w.text}.",
            "Show the {a.plural} with over {k} {t.many} {w.text}.",
        ),
        (_GROUP,),
        (_w(Form.COMPARE, Form.PERIOD),),
        ("SELECT DISTINCT {a.sql} FROM {t.sql} WHERE {w.sql}",),
        limits=(1, 2, 3, 4, 5, 6, 8, 10),
    ),
    Shape(
        "most_common",
        Difficulty.MEDIUM,
        Scope.TABLE,
        "SELECT {a.sql} FROM {t.sql} WHERE {w.sql} GROUP BY {a.sql} ORDER BY COUNT(*) DESC LIMIT 1",
        (
            "Which {a.noun} is the most common among {t.many} {w.text}?",
            "What is the most frequent {a.noun} of {t.many} {w.text}?",
            "Give the {a.noun} that has the most {t.many} {w.text}.",
        ),
        (_GROUP,),
        (_w(Form.COMPARE, Form.PERIOD),),
        ("SELECT {a.sql} FROM {t.sql} WHERE {w.sql} LIMIT 1",),
        "SELECT COUNT(*) FROM {t.sql} WHERE {w.sql} GROUP BY {a.sql} ORDER BY COUNT(*) DESC LIMIT 2",
    ),
    Shape(
        "per_year",
        Difficulty.MEDIUM,
        Scope.TABLE,
        "SELECT strftime('%Y', {d.sql}), COUNT(*) FROM {t.sql} WHERE {w.sql} GROUP BY strftime('%Y', {d.sql})",
        (
            "For each year of the {d.noun}, show the year and the number of {t.many} {w.text}.",
            "Count the {t.many} {w.text} per year of the {d.noun}. Show the year and the count.",
            "How many {t.many} {w.text} fall in each year of the {d.noun}? Give the year, then the number.",
        ),
        (Pick("d", "t", frozenset({Kind.DATE}), nullable=False),),
        (_w(Form.EQUAL, Form.COMPARE, Form.NULL),),
        ("SELECT strftime('%Y', {d.sql}), COUNT(*) FROM {t.sql} GROUP BY strftime('%Y', {d.sql})",),
    ),
)

_NESTED = (
    Shape(
        "above_average",
        Difficulty.MEDIUM,
        Scope.TABLE,
        "SELECT {a.sql} FROM {t.sql} WHERE {n.sql} {rel.sql} (SELECT AVG({n.sql}) FROM {t.sql})",
        (
            "List the {a.noun} of every {t.one} whose {n.noun} is {rel.ordering} the average.",
            "Show the {a.plural} of {t.many} with a {n.noun} {rel.ordering} the average.",
            "Which {t.many} have a {rel.word} {n.noun} than the average {t.one}? Give the {a.noun}.",
        ),
        (_A, _SUMMED),
        (),
        ("SELECT {a.sql} FROM {t.sql}",),
    ),
    Shape(
        "above_group",
        Difficulty.HARD,
        Scope.TABLE,
        "SELECT {a.sql} FROM {t.sql} WHERE {n.sql} {rel.sql} (SELECT AVG({n.sql}) FROM {t.sql} WHERE {w.sql})",
        (
            "List the {a.noun} of every {t.one} whose {n.noun} is {rel.ordering} the average of {t.many} {w.text}.",
            "Give the {a.noun} of each {t.one} with a {n.noun} {rel.ordering} the average over {t.many} {w.text}.",
        ),
        (_WHO, _SUMMED),
        (_w(Form.EQUAL, Form.PERIOD),),
        (
            "SELECT {a.sql} FROM {t.sql} WHERE {n.sql} {rel.sql} (SELECT AVG({n.sql}) FROM {t.sql})",
            "SELECT {a.sql} FROM {t.sql} WHERE {w.sql}",
        ),
    ),
)

_SETS = (
    Shape(
        "intersect",
        Difficulty.HARD,
        Scope.TABLE,
        "SELECT {a.sql} FROM {t.sql} WHERE {w.sql} INTERSECT SELECT {a.sql} FROM {t.sql} WHERE {v.sql}",
        (
            "Which {a.plural} occur both among {t.many} {w.text} and among {t.many} {v.text}?",
            "List each {a.noun} that occurs among {t.many} {w.text} and also among {t.many} {v.text}.",
            "Show the {a.plural} shared by {t.many} {w.text} and {t.many} {v.text}.",
        ),
        (Pick("a", "t", GROUPED | {Kind.NAME}, nullable=False),),
        (_w(Form.COMPARE, Form.EQUAL), _v(Form.COMPARE, Form.PERIOD)),
        ("SELECT {a.sql} FROM {t.sql} WHERE {w.sql}", "SELECT {a.sql} FROM {t.sql} WHERE {v.sql}"),
    ),
    Shape(
        "union",
        Difficulty.HARD,
        Scope.TABLE,
        "SELECT {a.sql} FROM {t.sql} WHERE {w.sql} UNION SELECT {a.sql} FROM {t.sql} WHERE {v.sql}",
        (
            "List the different {a.plural} of {t.many} {w.text} together with those of {t.many} {v.text}.",
            "Combine the {a.plural} of {t.many} {w.text} and of {t.many} {v.text}, without repeats.",
            "Which {a.plural} occur among {t.many} {w.text} or among {t.many} {v.text}?",
        ),
        (Pick("a", "t", GROUPED | NAMED, nullable=False),),
        (_w(Form.EQUAL), _v(Form.COMPARE, Form.PERIOD)),
        ("SELECT {a.sql} FROM {t.sql} WHERE {w.sql}", "SELECT {a.sql} FROM {t.sql} WHERE {v.sql}"),
    ),
    Shape(
        "except",
        Difficulty.HARD,
        Scope.TABLE,
        "SELECT {a.sql} FROM {t.sql} EXCEPT SELECT {a.sql} FROM {t.sql} WHERE {w.sql}",
        (
            "Which {a.plural} have no {t.one} {w.text}?",
            "List each {a.noun} of {t.many} that doesn't occur among {t.many} {w.text}.",
            "Show the {a.plural} of {t.many}, except those of {t.many} {w.text}.",
        ),
        (_GROUP,),
        (_w(Form.COMPARE, Form.PERIOD),),
        ("SELECT {a.sql} FROM {t.sql}",),
    ),
)

GROUPS_AND_SETS = _GROUPS + _NESTED + _SETS
