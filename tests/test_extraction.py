"""Extraction of the SQL from a completion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.reward_service.sql_text.extraction import extract_sql

CASES = {
    "bare": ("SELECT 1", "SELECT 1"),
    "lower case and space": ("  select 1 ;\n", "select 1"),
    "prose before": ("The query is:\nWITH a AS (SELECT 1) SELECT * FROM a;", "WITH a AS (SELECT 1) SELECT * FROM a"),
    "values": ("VALUES (1)", "VALUES (1)"),
    "fence": ("Here:\n```sql\nSELECT a\nFROM t;\n```\nDone, select it.", "SELECT a\nFROM t"),
    "fence, upper case": ("```SQL\nSELECT 1\n```", "SELECT 1"),
    "fence on one line": ("```sql SELECT 1```", "SELECT 1"),
    "unlabelled fence": ("```\nSELECT 1\n```", "SELECT 1"),
    "unlabelled fence on one line": ("```SELECT 1```", "SELECT 1"),
    "keyword alone on the fence's line": ("```SELECT\n1```", "SELECT\n1"),
    "last fence": ("```sql\nSELECT 1\n```\nor\n```sql\nSELECT 2\n```", "SELECT 2"),
    "other language after": ("```sql\nSELECT 1\n```\n```python\nx = 'select'\n```", "SELECT 1"),
    "truncated fence": ("```sql\nSELECT a FROM", "SELECT a FROM"),
    "fenced DML stays": ("```sql\nDELETE FROM t\n```", "DELETE FROM t"),
    "empty fence": ("```sql\n```", None),
    "after thinking": ("<think>SELECT 0</think>\nSELECT 1", "SELECT 1"),
    "after the last thinking": ("<think>a</think>SELECT 0</think>SELECT 1", "SELECT 1"),
    "still thinking": ("<think>maybe SELECT 1", None),
    "nothing after thinking": ("<think>```sql\nSELECT 1\n```</think> I do not know.", None),
    "answer tags": ("<answer>\n```sql\nSELECT 1;\n```\n</answer>", "SELECT 1"),
    "answer tags, bare": ("<answer>SELECT 1;</answer>", "SELECT 1"),
    "tag inside the fence": ("```sql\nSELECT 1; </answer>\n```", "SELECT 1"),
    "text after the tag": ("<answer>SELECT 1</answer> bye", "SELECT 1"),
    "another dialect's label": ("Numbers with a name:\n```mysql\nSELECT 1;\n```", "SELECT 1"),
    "label with a file": ("```sql:query.sql\nSELECT 1\n```", "SELECT 1"),
    "label with a title": ("```sql title=x\nSELECT 1\n```", "SELECT 1"),
    "output after it": ("```sql\nSELECT 1\n```\nIt prints:\n```\n a (4 values)\n1\n```", "SELECT 1"),
    "output with 'with'": ("```sql\nSELECT 1\n```\n```\n4 rows, one with NULL\n```", "SELECT 1"),
    "stray fence in prose": ("Use ``` around code, with care.\n```sql\nSELECT 1\n```", "SELECT 1"),
    "stray fence on a line": ("```\nThis one:\n```sql\nSELECT 1\n```", "SELECT 1"),
    "four backticks": ("````sql\nSELECT 1\n````", "SELECT 1"),
    "tildes": ("~~~sql\nSELECT 1\n~~~", "SELECT 1"),
    "fence within a longer one": ("````sql\nSELECT '```'\n````", "SELECT '```'"),
    "comment first": ("-- rows with a number\nSELECT 1", "-- rows with a number\nSELECT 1"),
    "block comment first": ("/* select all */ SELECT 1;", "/* select all */ SELECT 1"),
    "unlabelled fence, comment first": ("```\n-- with care\nSELECT 1\n```", "-- with care\nSELECT 1"),
    "prose with 'with'": ("The query with all numbers is: SELECT 1", "SELECT 1"),
    "prose with 'select'": ("I select the number. SELECT 1", "SELECT 1"),
    "prose, then CTE": ("With pleasure:\nWITH a AS (SELECT 1) SELECT * FROM a", "WITH a AS (SELECT 1) SELECT * FROM a"),
    "inline code": ("The answer is `SELECT 1`.", "SELECT 1"),
    "inline code beside quoted names": ("From `t`: SELECT `a` FROM `t`", "SELECT `a` FROM `t`"),
    "prose after bare SQL": ("SELECT 1;\n\nThis gives the number.", "SELECT 1"),
    "semicolon in a text, then prose": ("SELECT ';' FROM t; This is it.", "SELECT ';' FROM t"),
    "a second statement stays": ("SELECT 1; DROP TABLE t", "SELECT 1; DROP TABLE t"),
    "two semicolons": ("SELECT 1;;", "SELECT 1"),
    "bare DDL around a query": ("CREATE TABLE z AS SELECT 1", "CREATE TABLE z AS SELECT 1"),
    "bare DML around a query": ("INSERT INTO t SELECT 1", "INSERT INTO t SELECT 1"),
    "prose, then DML": ("This does it: INSERT INTO t SELECT 1", "INSERT INTO t SELECT 1"),
    "bare ATTACH": ("ATTACH 'made.db' AS made;", "ATTACH 'made.db' AS made"),
    "bare ATTACH of a quoted name": ('ATTACH "made.db" AS made', 'ATTACH "made.db" AS made'),
    "bare VACUUM INTO": ("VACUUM INTO 'copy.db'", "VACUUM INTO 'copy.db'"),
    "bare VACUUM of a schema": ("vacuum main into 'copy.db'", "vacuum main into 'copy.db'"),
    "bare EXPLAIN": ("EXPLAIN QUERY PLAN SELECT 1", "EXPLAIN QUERY PLAN SELECT 1"),
    "answer before a later fence": ("<answer>```sql\nSELECT 1\n```</answer>\nNot: ```sql\nSELECT 2\n```", "SELECT 1"),
    "answer after a draft": ("Draft: ```sql\nSELECT 2\n```<answer>SELECT 1</answer>", "SELECT 1"),
    "last answer": ("<answer>SELECT 2</answer><answer>SELECT 1</answer>", "SELECT 1"),
    "answer without SQL": ("<answer>As above.</answer>\n```sql\nSELECT 1\n```", "SELECT 1"),
    "tag in a text": ("```sql\nSELECT '</think>'\n```", "SELECT '</think>'"),
    "no SQL": ("I can't answer that.", None),
    "a longer word": ("preselected without values_of", None),
    "empty": ("", None),
}


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    completion, expected = CASES[name]
    assert extract_sql(completion) == expected


PLAIN_SQL = st.text(alphabet="abcxyz0189 ,.*=<>()'\n", max_size=60).map(lambda text: ("SELECT " + text).strip())
PROSE = st.text(alphabet="ABCdefgh .,:\n", max_size=40)


@given(st.text())
def test_never_raises_and_never_keeps_its_wrapping(completion: str) -> None:
    sql = extract_sql(completion)
    assert sql is None or (sql and sql == sql.strip() and not sql.endswith((";", "</answer>")))


@given(PROSE, PLAIN_SQL, PROSE)
def test_a_fence_gives_its_content_whatever_stands_around(before: str, sql: str, after: str) -> None:
    assert extract_sql(f"{before}\n```sql\n{sql}\n```\n{after}") == sql


@given(st.text(), PLAIN_SQL)
def test_the_reasoning_plays_no_part(reasoning: str, sql: str) -> None:
    assert extract_sql(f"<think>{reasoning}</think>{sql}") == sql


@given(PLAIN_SQL)
def test_extracting_twice_changes_nothing(sql: str) -> None:
    once = extract_sql(sql)
    assert once == sql and extract_sql(once) == once


@given(PLAIN_SQL, st.integers(0, 80))
def test_a_truncated_fence_gives_a_prefix(sql: str, num_chars: int) -> None:
    found = extract_sql(f"```sql\n{sql[:num_chars]}")
    assert (found or "") == sql[:num_chars].strip()
