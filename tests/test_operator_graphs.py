"""Operator graphs: one for queries that mean the same, another for those that don't, and a verdict for any text."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floe.reward_service.graph import terms
from floe.reward_service.graph.build import BuiltQuery, build
from floe.reward_service.graph.plan import MAX_SQL_CHARS, NoPlan, SyntaxFault, schema_of
from floe.reward_service.graph.stepwise import step_credits
from floe.reward_service.graph.terms import OperatorGraph

TABLES = {
    "singer": {"id": "INTEGER", "name": "TEXT", "age": "INTEGER", "country": "TEXT"},
    "concert": {"cid": "INTEGER", "sid": "INTEGER", "year": "INTEGER"},
}
SCHEMA = schema_of(TABLES)


def graph(sql: str) -> OperatorGraph:
    return build(sql, SCHEMA).graph


SAME = {
    "aliases": ("SELECT s.name FROM singer AS s", "SELECT t9.name FROM singer t9"),
    "case": ("SELECT NAME FROM Singer", "select name from singer"),
    "operands": (
        "SELECT name FROM singer WHERE age > 3 AND country = 'x'",
        "SELECT name FROM singer WHERE 'x' = country AND 3 < age",
    ),
    "between": (
        "SELECT name FROM singer WHERE age BETWEEN 1 AND 5",
        "SELECT name FROM singer WHERE age <= 5 AND age >= 1",
    ),
    "not": (
        "SELECT name FROM singer WHERE NOT (age > 5 OR id = 1)",
        "SELECT name FROM singer WHERE age <= 5 AND id <> 1",
    ),
    "in": ("SELECT name FROM singer WHERE id IN (1, 2)", "SELECT name FROM singer WHERE id = 2 OR id = 1"),
    "in of one": ("SELECT name FROM singer WHERE id IN (1)", "SELECT name FROM singer WHERE id = 1.0"),
    "compared number": ("SELECT name FROM singer WHERE age > 5", "SELECT name FROM singer WHERE age > 5.0"),
    "named window": (
        "SELECT rank() OVER w FROM singer WINDOW w AS (PARTITION BY country ORDER BY age)",
        "SELECT rank() OVER (PARTITION BY country ORDER BY age) FROM singer",
    ),
    "window of a window": (
        "SELECT rank() OVER (w ORDER BY age) FROM singer WINDOW w AS (PARTITION BY country)",
        "SELECT rank() OVER (PARTITION BY country ORDER BY age) FROM singer",
    ),
    "count": ("SELECT COUNT(*) FROM singer", "SELECT COUNT(1) FROM singer"),
    "star": ("SELECT * FROM concert", "SELECT cid, sid, year FROM concert"),
    "comma join": (
        "SELECT name FROM singer JOIN concert ON id = sid WHERE year = 1",
        "SELECT s.name FROM concert AS c, singer AS s WHERE c.year = 1 AND c.sid = s.id",
    ),
    "cte": (
        "SELECT name FROM singer WHERE age > 3",
        "WITH old AS (SELECT * FROM singer WHERE age > 3) SELECT o.name FROM old AS o",
    ),
    "derived table": (
        "SELECT name FROM singer WHERE age > 3",
        "SELECT q.name FROM (SELECT * FROM singer) AS q WHERE q.age > 3",
    ),
    "order by alias": (
        "SELECT country, COUNT(*) FROM singer GROUP BY country ORDER BY COUNT(*) DESC",
        "SELECT country, COUNT(*) AS n FROM singer GROUP BY 1 ORDER BY n DESC",
    ),
    "double quotes": ("SELECT name FROM singer WHERE country = 'x'", 'SELECT name FROM singer WHERE country = "x"'),
    "union": (
        "SELECT id FROM singer UNION SELECT sid FROM concert",
        "SELECT sid FROM concert UNION SELECT id FROM singer",
    ),
}
DIFFERENT = {
    "integer division": (
        "SELECT 100 * sum(age) / count(*) FROM singer",
        "SELECT 100.0 * sum(age) / count(*) FROM singer",
    ),
    "division of literals": ("SELECT 5 / 2 FROM singer", "SELECT 5.0 / 2 FROM singer"),
    "negative division": ("SELECT -5 / 2 FROM singer", "SELECT -(5.0) / 2 FROM singer"),
    "named window": (
        "SELECT rank() OVER w FROM singer WINDOW w AS (PARTITION BY country)",
        "SELECT rank() OVER w FROM singer WINDOW w AS (PARTITION BY age)",
    ),
    "window frame": (
        "SELECT sum(age) OVER w FROM singer WINDOW w AS (ORDER BY id ROWS 1 PRECEDING)",
        "SELECT sum(age) OVER w FROM singer WINDOW w AS (ORDER BY id ROWS 2 PRECEDING)",
    ),
    "column": ("SELECT name FROM singer", "SELECT country FROM singer"),
    "order of columns": ("SELECT name, age FROM singer", "SELECT age, name FROM singer"),
    "literal": ("SELECT name FROM singer WHERE age > 3", "SELECT name FROM singer WHERE age > 4"),
    "text and number": ("SELECT name FROM singer WHERE age = 3", "SELECT name FROM singer WHERE age = '3'"),
    "comparison": ("SELECT name FROM singer WHERE age > 3", "SELECT name FROM singer WHERE age < 3"),
    "sides": ("SELECT age - id FROM singer", "SELECT id - age FROM singer"),
    "and, or": (
        "SELECT name FROM singer WHERE age = 3 AND id = 1",
        "SELECT name FROM singer WHERE age = 3 OR id = 1",
    ),
    "aggregate": ("SELECT MAX(age) FROM singer", "SELECT MIN(age) FROM singer"),
    "distinct": ("SELECT country FROM singer", "SELECT DISTINCT country FROM singer"),
    "count distinct": ("SELECT COUNT(country) FROM singer", "SELECT COUNT(DISTINCT country) FROM singer"),
    "direction": ("SELECT name FROM singer ORDER BY age", "SELECT name FROM singer ORDER BY age DESC"),
    "limit": ("SELECT name FROM singer ORDER BY age LIMIT 1", "SELECT name FROM singer ORDER BY age LIMIT 2"),
    "outer join": (
        "SELECT name FROM singer JOIN concert ON id = sid",
        "SELECT name FROM singer LEFT JOIN concert ON id = sid",
    ),
    "key": (
        "SELECT name FROM singer JOIN concert ON id = sid",
        "SELECT name FROM singer JOIN concert ON id = cid",
    ),
    "except": (
        "SELECT id FROM singer EXCEPT SELECT sid FROM concert",
        "SELECT sid FROM concert EXCEPT SELECT id FROM singer",
    ),
    "all": (
        "SELECT id FROM singer UNION SELECT sid FROM concert",
        "SELECT id FROM singer UNION ALL SELECT sid FROM concert",
    ),
    "negation": (
        "SELECT name FROM singer WHERE id IN (SELECT sid FROM concert)",
        "SELECT name FROM singer WHERE id NOT IN (SELECT sid FROM concert)",
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_what_means_the_same_has_one_graph(case: str) -> None:
    a, b = SAME[case]
    assert graph(a) == graph(b)
    assert graph(a).digest == graph(b).digest


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_differs_has_another_graph(case: str) -> None:
    a, b = DIFFERENT[case]
    assert graph(a) != graph(b)
    assert graph(a).digest != graph(b).digest


CONDITIONS = [
    "age > {}",
    "age = {}",
    "id <> {}",
    "year BETWEEN 1 AND {}",
    "name = '{}'",
    "country LIKE '{}%'",
    "cid IN (1, {})",
]


@given(
    conditions=st.lists(st.tuples(st.sampled_from(CONDITIONS), st.integers(0, 9)), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_aliases_and_the_order_of_conditions_change_nothing(conditions: list[tuple[str, int]], seed: int) -> None:
    written = [text.format(value) for text, value in conditions]
    shuffled = Random(seed).sample(written, len(written))
    plain = f"SELECT name FROM singer JOIN concert ON id = sid WHERE {' AND '.join(written)}"
    other = f"SELECT x.name FROM concert AS y JOIN singer AS x ON y.sid = x.id WHERE {' AND '.join(shuffled)}"
    assert graph(plain) == graph(other)


def test_a_column_has_an_edge_to_its_scan() -> None:
    found = graph("SELECT name FROM singer")
    kinds = [node.kind for node in found.nodes]
    assert sorted(kinds) == ["column", "project", "scan"]
    flows = [(found.nodes[edge.parent].kind, found.nodes[edge.child].kind) for edge in found.edges if edge.role == "of"]
    assert flows == [("column", "scan")]


def test_two_scans_of_one_table_are_told_apart() -> None:
    found = graph("SELECT a.name FROM singer AS a JOIN singer AS b ON a.id = b.age")
    assert [node.kind for node in found.nodes].count("scan") == 2


@pytest.mark.parametrize(
    "sql", ["SELEC name", "SELECT FROM WHERE", "SELECT 'open", "", ";", "SELECT 1; SELECT 2", "DROP TABLE singer"]
)
def test_what_is_no_query_is_a_syntax_fault(sql: str) -> None:
    with pytest.raises(SyntaxFault):
        build(sql, SCHEMA)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nam FROM singer",
        "SELECT name FROM singers",
        "SELECT x.name FROM singer AS s",
        "SELECT sid FROM singer",
        "SELECT name FROM singer JOIN nowhere ON singer.id = 1",
        "SELECT nowhere.name FROM singer JOIN nowhere ON singer.id = nowhere.id",
        "SELECT name FROM singer JOIN singer.country ON singer.id = 1",
        "SELECT concert.name FROM singer JOIN concert ON singer.id = concert.sid",
        "SELECT singer.name FROM singer JOIN singer ON singer.id = 1",
        "SELECT name FROM singer WHERE MAX(age) > 3",
        "SELECT name FROM singer AS a JOIN singer AS b ON a.id = b.id",  # ambiguous
        "SELECT " + "(" * 500 + "1" + ")" * 500,
        "SELECT name FROM singer WHERE age = " + "1" * MAX_SQL_CHARS,
        "SELECT name FROM singer WHERE " + " OR ".join(f"age > {number}" for number in range(terms.MAX_NODES)),
    ],
)
def test_what_cannot_be_planned_has_no_plan(sql: str) -> None:
    with pytest.raises(NoPlan):
        build(sql, SCHEMA)


@given(st.text(st.sampled_from("SELECT name FROM singer WHERE age>1'\"(),*;-/%\n") | st.characters(), max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_verdict(text: str) -> None:
    for sql in (text, f"SELECT {text} FROM singer", f"SELECT name FROM singer WHERE {text}"):
        try:
            assert isinstance(build(sql, SCHEMA), BuiltQuery)
        except (SyntaxFault, NoPlan) as error:
            assert str(error)


def test_hostile_sql_is_a_verdict(shared_data) -> None:
    kinds = Counter()
    for case in json.loads((shared_data / "hostile" / "hostile_sql.json").read_text(encoding="utf-8")):
        try:
            kinds[type(build(case["sql"], SCHEMA))] += 1
        except (SyntaxFault, NoPlan) as error:
            assert str(error)
            kinds[type(error)] += 1
    assert set(kinds) == {BuiltQuery, SyntaxFault, NoPlan}


def credits_of(answer: str, gold: str) -> list[float]:
    return step_credits(build(answer, SCHEMA).steps, build(gold, SCHEMA).steps)


# Its pieces: the scan of singer, the condition, the column.
GOLD = "SELECT name FROM singer WHERE age > 3"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (GOLD, [3 / 3]),
        ("WITH old AS (SELECT * FROM singer WHERE age > 3) SELECT name FROM old", [2 / 3, 1 / 3]),
        (
            "WITH a AS (SELECT * FROM singer), b AS (SELECT * FROM a WHERE age > 3) SELECT name FROM b",
            [1 / 3, 1 / 3, 1 / 3],
        ),
        # The second scan of singer is nothing new, and the wrong condition is nothing of the gold's.
        (
            "WITH a AS (SELECT * FROM singer), b AS (SELECT * FROM singer WHERE id IN (SELECT id FROM a)) "
            "SELECT name FROM b",
            [1 / 3, 0, 1 / 3],
        ),
        ("SELECT year FROM concert", [0]),
        # A CTE that nothing reads is no step towards the answer.
        ("WITH a AS (SELECT * FROM singer WHERE age > 3) SELECT year FROM concert", [0, 0]),
    ],
)
def test_each_step_is_credited_what_it_adds(answer: str, expected: list[float]) -> None:
    assert credits_of(answer, GOLD) == pytest.approx(expected)


def test_the_gold_may_be_in_cte_form() -> None:
    gold = "WITH old AS (SELECT * FROM singer WHERE age > 3) SELECT name FROM old"
    assert credits_of(GOLD, gold) == [1.0]
    grouped = "SELECT country FROM singer GROUP BY country HAVING COUNT(*) > 2"  # scan, key, condition, column
    stepped = "WITH n AS (SELECT country, COUNT(*) AS c FROM singer GROUP BY country) SELECT country FROM n WHERE c > 2"
    assert credits_of(stepped, grouped) == [2 / 4, 2 / 4]


@given(
    st.lists(
        st.sampled_from([sql for pair in (*SAME.values(), *DIFFERENT.values()) for sql in pair]), min_size=2, max_size=2
    )
)
@settings(max_examples=60, deadline=None)
def test_credits_add_up_to_one_at_most(pair: list[str]) -> None:
    credits = credits_of(*pair)
    assert all(credit >= 0 for credit in credits) and sum(credits) <= 1 + 1e-9
    assert sum(credits_of(pair[0], pair[0])) == pytest.approx(1)


def test_a_negated_condition_over_a_cte_has_a_graph():
    condition = "NOT (age > 3 AND name = 'x')"
    stepped = f"WITH s AS (SELECT name, age FROM singer) SELECT name FROM s WHERE {condition}"
    assert graph(stepped) == graph(f"SELECT name FROM singer WHERE {condition}")


STARS = ", ".join(["*"] * 70)


def doubling(levels: int) -> str:
    query = "SELECT age AS y FROM singer"
    for level in range(levels):
        query = f"SELECT y + y AS y FROM ({query}) AS t{level}"
    return query


@pytest.mark.parametrize(
    "sql",
    [
        doubling(20),
        f"SELECT {STARS} FROM (SELECT {STARS} FROM singer) AS t",
        "SELECT 1 AS a0, " + ", ".join(f"a{i} + a{i} AS a{i + 1}" for i in range(25)) + " FROM singer",
        " UNION ALL ".join(["SELECT age FROM singer"] * 200),
    ],
    ids=["doubled names", "stars", "chained aliases", "many SELECTs"],
)
def test_a_query_that_would_grow_without_end_has_no_plan(sql):
    with pytest.raises(NoPlan):
        build(sql, SCHEMA)
