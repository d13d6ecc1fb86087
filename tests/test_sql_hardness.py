"""Spider's levels by its published rules: single cases, and every dev question against its published tree's level."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from floe.cluster.evaluation.sql_hardness import UNKNOWN, spider_hardness

# Counts of the release's own evaluator over dev.json.
LEVELS_OF_DEV = {"easy": 248, "medium": 446, "hard": 174, "extra": 166}


@pytest.mark.parametrize(
    ("sql", "level"),
    [
        ("SELECT count(*) FROM singer", "easy"),
        ("SELECT name FROM singer WHERE age > 20", "easy"),
        ("SELECT name, age FROM singer", "medium"),
        ("SELECT name, age FROM singer WHERE a = 1 AND b = 2", "medium"),
        ("SELECT count(*), country FROM singer GROUP BY country", "medium"),
        ("SELECT t.a FROM t JOIN u ON t.x = u.x WHERE u.b = 1", "medium"),
        ("SELECT name FROM t WHERE a LIKE '%x%'", "medium"),
        ("SELECT name FROM t WHERE NOT a LIKE '%x%' OR b = 1", "hard"),
        ("SELECT name FROM t WHERE id NOT IN (SELECT id FROM u)", "hard"),
        ("SELECT a FROM t UNION SELECT b FROM u", "hard"),
        ("SELECT a, b FROM t WHERE x = 1 AND y = 2 GROUP BY c, d", "hard"),
        ("SELECT a FROM t WHERE x > (SELECT avg(x) FROM t) ORDER BY a", "extra"),
        ("SELECT a, b FROM t EXCEPT SELECT c, d FROM u WHERE x IN (SELECT y FROM v)", "extra"),
        ("SELECT a FROM t JOIN u ON t.i = u.i JOIN v ON u.j = v.j WHERE v.b = 1 ORDER BY a LIMIT 1", "extra"),
        ("SELECT max(a) - min(a) FROM t ORDER BY count(*) + sum(b)", "medium"),
        ("SELEC a FRM", UNKNOWN),
        ("VALUES (1)", UNKNOWN),
    ],
)
def test_levels(sql, level):
    assert spider_hardness(sql) == level


def test_every_dev_question_has_the_level_that_its_published_tree_has(shared_data):
    questions = json.loads((shared_data / "spider" / "dev.json").read_text())
    assert Counter(spider_hardness(question["query"]) for question in questions) == LEVELS_OF_DEV
