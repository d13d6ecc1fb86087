"""The scorer's handling of empty golds, changeable golds, verdicts that it knows, and suites of databases."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from floe.cluster.messages import Outcome
from floe.configs.errors import UserError
from tests.score_requests import GOLD, make_database, new_scorer, outcomes, score

EMPTY = "SELECT name FROM emp WHERE id > 99"

MAX_READINGS = 50


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_database(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({}, [(Outcome.MATCH, 1.0), (Outcome.MISMATCH, 0.1)]),
        ({"empty_gold": "skip"}, [(Outcome.GOLD_FAILED, None)] * 2),
        ({"empty_gold": "down_weight", "empty_gold_weight": 0.25}, [(Outcome.MATCH, 0.25), (Outcome.MISMATCH, 0.1)]),
    ],
)
def test_empty_golds_by_option(folder: Path, option: dict, expected: list) -> None:
    scorer = new_scorer(folder, **option)
    try:
        scores = score(scorer, EMPTY, "SELECT id FROM emp WHERE 0", "SELECT 1")
        assert [(each.outcome, each.reward) for each in scores] == expected
        assert score(scorer, (EMPTY, GOLD), GOLD, EMPTY)[1].outcome is Outcome.MATCH
        assert score(scorer, GOLD, GOLD)[0].reward == 1.0
    finally:
        scorer.close()


def test_a_gold_that_chance_decides_gives_nobody_a_reward(folder: Path) -> None:
    scorer = new_scorer(folder)
    try:
        chance = score(scorer, "SELECT random()", "SELECT 1", "SELECT random()")
        assert [(each.outcome, each.reward) for each in chance] == [(Outcome.GOLD_FAILED, None)] * 2
        assert "not deterministic" in chance[0].message
        settled = "SELECT count(*) FROM (SELECT name FROM emp ORDER BY random())"
        assert outcomes(score(scorer, settled, "SELECT 3")) == [Outcome.MATCH]
        today = "SELECT date('now')"
        assert outcomes(score(scorer, today, today)) == [Outcome.MATCH]
        assert outcomes(score(scorer, "SELECT date('2020-02-28', '+1 day')", "SELECT '2020-02-29'")) == [Outcome.MATCH]
    finally:
        scorer.close()


def test_a_known_verdict_is_not_worked_out_again(folder: Path) -> None:
    scorer = new_scorer(folder)
    try:
        first = score(scorer, GOLD, GOLD, "SELECT dept FROM emp", "SELEC", "SELECT random()")
        again = score(scorer, GOLD, "SELECT random()", "SELECT dept FROM emp", GOLD, GOLD, "SELEC")
        assert outcomes(again) == [
            outcomes(first)[3],
            outcomes(first)[1],
            *[outcomes(first)[0]] * 2,
            outcomes(first)[2],
        ]
        stats = scorer.stats()
        # Neither an error, which is cheap, nor what chance decides is kept.
        assert (stats.num_scores, stats.num_folded, stats.num_cached) == (9, 1, 2)
    finally:
        scorer.close()


def test_a_known_verdict_ends_with_the_state_of_the_database(folder: Path) -> None:
    scorer = new_scorer(folder)
    try:
        assert outcomes(score(scorer, "SELECT count(*) FROM emp", "SELECT 3")) == [Outcome.MATCH]
        with sqlite3.connect(folder / "emp" / "emp.sqlite") as connection:
            connection.execute("INSERT INTO emp VALUES (4, 'Di', 'it')")
        connection.close()
        assert outcomes(score(scorer, "SELECT count(*) FROM emp", "SELECT 3")) == [Outcome.MISMATCH]
    finally:
        scorer.close()


def test_a_known_verdict_is_that_of_its_gold(folder: Path) -> None:
    scorer = new_scorer(folder)
    try:
        assert outcomes(score(scorer, GOLD, "SELECT 3")) == [Outcome.MISMATCH]
        assert outcomes(score(scorer, "SELECT 3", "SELECT 3")) == [Outcome.MATCH]
        assert outcomes(score(scorer, (GOLD, "SELECT 3"), "SELECT 3")) == [Outcome.MATCH]
    finally:
        scorer.close()


OTHER = "CREATE TABLE emp(id, name, dept); INSERT INTO emp VALUES (7, 'Zo', 'hr');"
SUITE_GOLD = "SELECT max(id) FROM emp"


@pytest.fixture
def suite(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a further content in which the largest id is not the number of rows."""
    suite_dir = tmp_path_factory.mktemp("suite")
    make_database(suite_dir, content="other", script=OTHER)
    return suite_dir


def test_every_content_of_a_suite_must_agree(folder: Path, suite: Path) -> None:
    sqls = (SUITE_GOLD, "SELECT count(*) FROM emp", "SELECT id FROM emp ORDER BY id DESC LIMIT 1", "SELECT x FROM odd")
    expected = {
        ("spider", suite): [Outcome.MATCH, Outcome.MISMATCH, Outcome.MATCH, Outcome.MISMATCH],
        ("spider", None): [Outcome.MATCH, Outcome.MATCH, Outcome.MATCH, Outcome.MISMATCH],
    }
    for (semantics, suite_dir), wanted in expected.items():
        scorer = new_scorer(folder, semantics=semantics, suite=suite_dir)
        try:
            assert outcomes(score(scorer, SUITE_GOLD, *sqls)) == wanted
        finally:
            scorer.close()


def test_a_suite_that_would_not_be_used_is_refused(folder: Path, suite: Path) -> None:
    with pytest.raises(UserError, match="not a folder"):
        new_scorer(folder, semantics="spider", suite=suite / "typo")
    with pytest.raises(ValueError, match="spider"):
        new_scorer(folder, semantics="bird", suite=suite)


def test_contents_beside_the_database_count_as_its_suite(folder: Path) -> None:
    make_database(folder, content="beside", script=OTHER)
    scorer = new_scorer(folder, semantics="spider")
    try:
        assert outcomes(score(scorer, SUITE_GOLD, "SELECT count(*) FROM emp")) == [Outcome.MISMATCH]
    finally:
        scorer.close()


def test_one_and_the_same_gold_must_agree_on_the_whole_suite(folder: Path, suite: Path) -> None:
    scorer = new_scorer(folder, semantics="spider", suite=suite)
    try:
        # 3 is the first gold's answer on the database alone, and the second one's on the other content alone.
        golds = ("SELECT count(*) FROM emp", "SELECT CASE WHEN count(*) = 1 THEN 3 ELSE 0 END FROM emp")
        assert outcomes(score(scorer, golds, "SELECT 3", golds[0])) == [Outcome.MISMATCH, Outcome.MATCH]
    finally:
        scorer.close()


def test_a_gold_that_fails_on_one_content_fails(folder: Path, suite: Path) -> None:
    scorer = new_scorer(folder, semantics="spider", suite=suite)
    try:
        assert outcomes(score(scorer, "SELECT count(*) FROM odd", "SELECT 6")) == [Outcome.GOLD_FAILED]
    finally:
        scorer.close()
