"""The check of a statement's text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.reward_service.sql_text.statement import has_outermost_order_by, rejection_reason, without_empty_end

PASSING = [
    "SELECT 1",
    "  select 1 ; ; \n",
    "-- why\n/* so */ SELECT 1 -- end",
    "VALUES (1), (2);",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "WITH RECURSIVE r(n) AS (VALUES(1) UNION ALL SELECT n+1 FROM r LIMIT 3) SELECT n FROM r;",
    "WITH a AS (SELECT 1) VALUES (2)",
    "SELECT ';', \"a;b\", `c;d`, [e;f] -- ; SELECT 2",
    "SELECT 'it''s; fine' /* ; SELECT 2 */",
    "SELECT 1; -- done",
    "SELECT 1; /* unclosed",
    "SELECT replace(a, 'x', 'delete from') FROM t",
    "WITH a AS (SELECT replace('a', 'b', 'c')) SELECT replace(x, 'delete', '') FROM a",
    "SELEC 1",  # left to SQLite, which calls it a syntax error
    "(SELECT 1)",
]
REJECTED = [
    "",
    " \n",
    ";",
    "-- nothing",
    "/* nothing */",
    "; SELECT 1",
    "EXPLAIN SELECT 1",
    "explain query plan SELECT 1",
    "PRAGMA user_version",
    "/* LIMIT */ DELETE FROM t",
    "UPDATE t SET a=1 RETURNING a",
    "INSERT INTO t VALUES (1)",
    "REPLACE INTO t VALUES (1)",
    "CREATE TEMP VIEW t AS SELECT 1",
    "ATTACH 'x' AS y",
    "VACUUM INTO 'x'",
    "COMMIT",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE t",
    "SELECT 'a'';b'; SELECT 2",
    "WITH a AS (SELECT 1) DELETE FROM t",
    "WITH a AS (SELECT 1), b AS (SELECT 2) INSERT INTO t SELECT 1",
    "WITH a AS (SELECT 1) UPDATE t SET x = (SELECT 1)",
    "WITH a AS (SELECT 1) REPLACE INTO t SELECT 1",
]


@pytest.mark.parametrize("sql", PASSING)
def test_one_query_passes(sql: str) -> None:
    assert rejection_reason(sql) is None


@pytest.mark.parametrize("sql", REJECTED)
def test_all_else_is_rejected_with_a_reason(sql: str) -> None:
    assert rejection_reason(sql)


@given(st.text())
def test_any_text_is_judged_without_raising(sql: str) -> None:
    rejection_reason(sql)
    has_outermost_order_by(sql)


@given(st.text(alphabet="ab;'\"`[]-/*\n "))
def test_a_literal_hides_what_it_holds(text: str) -> None:
    literal = "'" + text.replace("'", "''") + "'"
    assert rejection_reason(f"SELECT {literal}") is None
    assert rejection_reason(f"SELECT {literal}; SELECT 1") is not None


@pytest.mark.parametrize(
    ("sql", "ordered"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("SELECT a FROM t order\n by a LIMIT 3", True),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", False),
        ("WITH x AS (SELECT a FROM t ORDER BY a) SELECT * FROM x", False),
        ("WITH x AS (SELECT a FROM t) SELECT * FROM x ORDER BY 1", True),
        ("SELECT rank() OVER (ORDER BY a) FROM t", False),
        ("SELECT 'order by' FROM t -- ORDER BY a", False),
        ('SELECT "(" FROM t ORDER BY a', True),
        ("SELECT a FROM t UNION SELECT b FROM u ORDER BY 1", True),
        ("SELECT order_by FROM t", False),
    ],
)
def test_only_the_outermost_order_counts(sql: str, ordered: bool) -> None:
    assert has_outermost_order_by(sql) is ordered


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1;;", "SELECT 1"),
        ("SELECT 1 ; -- done\n ;", "SELECT 1 "),
        ("SELECT ';;'", "SELECT ';;'"),
        ("SELECT ';' ;", "SELECT ';' "),
        ("SELECT 1; SELECT 2", "SELECT 1; SELECT 2"),
        ("SELECT 1 -- ;", "SELECT 1 -- ;"),
    ],
)
def test_empty_statements_at_the_end_are_none(sql: str, expected: str) -> None:
    assert without_empty_end(sql) == expected
