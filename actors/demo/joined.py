"""Lists the question shapes over several tables."""

from __future__ import annotations

from floe.actors.demo.conditions import Form
from floe.actors.demo.schemas import NUMBERS, Kind
from floe.actors.demo.shapes import Difficulty, Filter, Pick, Scope, Shape
from floe.actors.demo.slots import LISTED, NAMED

_LABELS = frozenset({Kind.NAME, Kind.CATEGORY})
_OWN = Pick("a", "child", LISTED)
_NAME = Pick("a", "parent", NAMED, nullable=False)
_PARENTS = Filter("w", "parent", (Form.EQUAL, Form.CALLED, Form.COMPARE), prefixed=True)
_CHILDREN = Filter("w", "child", (Form.EQUAL, Form.COMPARE, Form.DAY, Form.PERIOD, Form.NULL))
_FAR = Filter("w", "far", (Form.EQUAL, Form.CALLED, Form.COMPARE), prefixed=True)

_LINKS = (
    Shape(
        "join_list",
        Difficulty.MEDIUM,
        Scope.LINK,
        "SELECT {a.sql} FROM {join} WHERE {w.sql}",
        (
            "List the {a.noun} of every {child.one} {w.text}.",
            "What is the {a.noun} of each {child.one} {w.text}?",
            "Show the {a.plural} of all {child.many} {w.text}.",
        ),
        (_OWN,),
        (_PARENTS,),
        ("SELECT {a.sql} FROM {join}",),
    ),
    Shape(
        "join_count",
        Difficulty.MEDIUM,
        Scope.LINK,
        "SELECT COUNT(*) FROM {join} WHERE {w.sql}",
        (
            "How many {child.many} are there {w.text}?",
            "Count the {child.many} {w.text}.",
            "What is the number of {child.many} {w.text}?",
        ),
        (),
        (_PARENTS,),
        ("SELECT COUNT(*) FROM {join}",),
    ),
    Shape(
        "join_aggregate",
        Difficulty.MEDIUM,
        Scope.LINK,
        "SELECT {fn.sql}({n.sql}) FROM {join} WHERE {w.sql}",
        (
            "What is the {fn.word} {n.noun} of {child.many} {w.text}?",
            "Find the {fn.word} {n.noun} over all {child.many} {w.text}.",
            "Give the {fn.word} {n.noun} for the {child.many} {w.text}.",
        ),
        (Pick("n", "child", NUMBERS),),
        (_PARENTS,),
        ("SELECT {fn.sql}({n.sql}) FROM {join}",),
    ),
    Shape(
        "join_parent",
        Difficulty.MEDIUM,
        Scope.LINK,
        "SELECT DISTINCT {a.sql} FROM {join} WHERE {w.sql}",
        (
            "List the different {a.plural} of {parent.many} with {child.a_one} {w.text}.",
            "Which {parent.many} have {child.a_one} {w.text}? Show each {a.noun} once.",
            "Show the distinct {a.plural} of {parent.many} that have {child.a_one} {w.text}.",
        ),
        (Pick("a", "parent", _LABELS, nullable=False),),
        (_CHILDREN,),
        ("SELECT DISTINCT {a.sql} FROM {join}", "SELECT DISTINCT {a.bare} FROM {parent.sql}"),
    ),
    Shape(
        "join_both",
        Difficulty.MEDIUM,
        Scope.LINK,
        "SELECT {c.sql}, {a.sql} FROM {join} WHERE {w.sql}",
        (
            "For every {child.one} {w.text}, show its {c.noun} and the {a.noun} of its {parent.one}.",
            "Show the {c.noun} and the {parent.one} {a.noun} of each {child.one} {w.text}.",
            "List {c.noun} and {parent.one} {a.noun} for all {child.many} {w.text}.",
        ),
        (Pick("c", "child", LISTED), Pick("a", "parent", _LABELS, nullable=False)),
        (_CHILDREN,),
        ("SELECT {c.sql}, {a.sql} FROM {join}",),
    ),
)

_LINK_GROUPS = (
    Shape(
        "join_group",
        Difficulty.HARD,
        Scope.LINK,
        "SELECT {a.sql}, COUNT(*) FROM {join} GROUP BY {a.sql}",
        (
            "For each {parent.one} {a.noun}, show the {a.noun} and the number of {child.many}.",
            "Count the {child.many} per {parent.one} {a.noun}. Show the {a.noun} and the count.",
            "Show every {parent.one} {a.noun} and how many {child.many} it has.",
        ),
        (Pick("a", "parent", _LABELS, nullable=False),),
    ),
    Shape(
        "join_group_aggregate",
        Difficulty.HARD,
        Scope.LINK,
        "SELECT {a.sql}, {fn.sql}({n.sql}) FROM {join} GROUP BY {a.sql}",
        (
            "For each {parent.one} {a.noun}, show the {a.noun} and the {fn.word} {n.noun} of the {child.many}.",
            "Show every {parent.one} {a.noun} with the {fn.word} {n.noun} of its {child.many}.",
        ),
        (Pick("a", "parent", _LABELS, nullable=False), Pick("n", "child", NUMBERS)),
    ),
    Shape(
        "join_having",
        Difficulty.HARD,
        Scope.LINK,
        "SELECT {a.sql} FROM {join} GROUP BY {a.sql} HAVING COUNT(*) > {k}",
        (
            "Which {parent.one} {a.plural} have more than {k} {child.many}?",
            "List every {parent.one} {a.noun} with more than {k} {child.many}.",
            "Show the {a.plural} of {parent.many} that occur with over {k} {child.many}.",
        ),
        (Pick("a", "parent", _LABELS, nullable=False),),
        decoys=("SELECT {a.sql} FROM {join}",),
        limits=(2, 3, 4, 5, 6, 8, 10, 15, 20, 25, 30),
    ),
    Shape(
        "join_most",
        Difficulty.HARD,
        Scope.LINK,
        "SELECT {a.sql} FROM {join} GROUP BY {a.sql} ORDER BY COUNT(*) DESC LIMIT {k}",
        (
            "List the {k} {parent.one} {a.plural} with the most {child.many}.",
            "Which {k} {parent.one} {a.plural} have the highest number of {child.many}?",
        ),
        (Pick("a", "parent", _LABELS, nullable=False),),
        (),
        ("SELECT {a.sql} FROM {join} LIMIT {k}",),
        "SELECT COUNT(*) FROM {join} GROUP BY {a.sql} ORDER BY COUNT(*) DESC LIMIT {k} + 1",
        (2, 3, 4, 5),
    ),
    Shape(
        "without",
        Difficulty.HARD,
        Scope.LINK,
        "SELECT {a.bare} FROM {parent.sql} WHERE id NOT IN (SELECT {key} FROM {child.sql} WHERE {w.bare})",
        (
            "List the {a.noun} of every {parent.one} without {child.a_one} {w.text}.",
            "Which {parent.many} have no {child.one} {w.text}? Give the {a.noun}.",
            "Show the {a.plural} of {parent.many} that have no {child.one} {w.text}.",
        ),
        (_NAME,),
        (_CHILDREN,),
        (
            "SELECT {a.bare} FROM {parent.sql}",
            "SELECT {a.bare} FROM {parent.sql} WHERE id NOT IN (SELECT {key} FROM {child.sql})",
        ),
        plain_roles=True,
    ),
)

_THREE_TABLES = (
    Shape(
        "fork_list",
        Difficulty.HARD,
        Scope.FORK,
        "SELECT DISTINCT {a.sql} FROM {join} WHERE {w.sql}",
        (
            "List the different {a.plural} of {near.many} with {child.a_one} {w.text}.",
            "Which {near.many} have {child.a_one} {w.text}? Show each {a.noun} once.",
            "Show the distinct {a.plural} of {near.many} that have {child.a_one} {w.text}.",
        ),
        (Pick("a", "near", NAMED, nullable=False),),
        (_FAR,),
        ("SELECT DISTINCT {a.sql} FROM {join}",),
    ),
    Shape(
        "chain_list",
        Difficulty.HARD,
        Scope.CHAIN,
        "SELECT {a.sql} FROM {join} WHERE {w.sql}",
        (
            "List the {a.noun} of every {child.one} {w.text}.",
            "What is the {a.noun} of each {child.one} {w.text}?",
            "Show the {a.plural} of all {child.many} {w.text}.",
        ),
        (_OWN,),
        (_FAR,),
        ("SELECT {a.sql} FROM {join}",),
    ),
    Shape(
        "union_tables",
        Difficulty.HARD,
        Scope.FORK,
        "SELECT {a.bare} FROM {near.sql} WHERE {w.bare} UNION SELECT {b.bare} FROM {far.sql}",
        (
            "List the {a.plural} of {near.many} {w.text} together with the {b.plural} of all {far.many}.",
            "Combine the {a.plural} of {near.many} {w.text} and the {b.plural} of all {far.many}, without repeats.",
        ),
        (Pick("a", "near", NAMED, nullable=False), Pick("b", "far", NAMED, nullable=False)),
        (Filter("w", "near", (Form.EQUAL, Form.COMPARE)),),
        ("SELECT {a.bare} FROM {near.sql} UNION SELECT {b.bare} FROM {far.sql}",),
    ),
)

JOINS = _LINKS + _LINK_GROUPS + _THREE_TABLES
