"""Predictions as the official evaluators read them."""

from __future__ import annotations

import json
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.cluster.evaluation.submissions import BIRD_SEPARATOR, NO_ANSWER, bird_submission, spider_submission
from floe.reward_service.sql_text.statement import one_line

PIECES = st.sampled_from(
    ["SELECT", " ", "\n", "\t", "'a'", "'it''s'", '"x"', "1", "-- no\n", "/* a\nb */", ",", "||", "'--'", "'"]
)


def value_of(sql: str) -> object:
    try:
        return sqlite3.connect(":memory:").execute(sql).fetchall()
    except sqlite3.Error as error:
        return type(error)


@given(st.lists(PIECES, max_size=8).map("".join))
def test_a_line_means_what_the_query_meant(tail):
    sql = f"SELECT 1{tail}"
    line = one_line(sql)
    if line is not None:
        assert len(line.splitlines()) == 1 and "\t" not in line
        assert value_of(line) == value_of(sql)


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("SELECT a -- the 'name'\nFROM t\r\nWHERE x = 'b--c'", "SELECT a   FROM t  WHERE x = 'b--c'"),
        ("SELECT 'two\nlines'", None),
        ('SELECT "a\tb"', None),
        ("-- nothing", ""),
    ],
)
def test_lines(sql, line):
    assert one_line(sql) == line


def test_spiders_file_has_a_line_for_every_question_in_order():
    sql_by_id = {"0": "SELECT 1\nFROM t", "1": None, "2": "SELECT 'a\nb'", "3": "-- none"}
    text, num_broken = spider_submission(["2", "0", "1", "3"], sql_by_id)
    assert text.splitlines() == [NO_ANSWER, "SELECT 1 FROM t", NO_ANSWER, NO_ANSWER]
    assert num_broken == 1


def test_birds_file_goes_by_the_index_in_the_questions_file():
    text = bird_submission([("17", "zoo"), ("9", "shop"), ("17", "zoo")], {"17": "SELECT 1\nFROM t", "9": None})
    parsed = json.loads(text)
    assert parsed == {
        "0": "SELECT 1\nFROM t\t----- bird -----\tzoo",
        "1": f"{NO_ANSWER}{BIRD_SEPARATOR}shop",
        "2": "SELECT 1\nFROM t\t----- bird -----\tzoo",
    }
    assert parsed["0"].split("\t----- bird -----\t") == ["SELECT 1\nFROM t", "zoo"]
