"""Shares of the reward that constant answers and empty results earn, on made groups and on a real database."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from floe.cluster.messages import Candidate, Outcome, Question, ScoredGroup, ScoreRequest
from floe.cluster.tracking.hollow_rewards import constant_reward_share, empty_reward_share
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.scorer import Scorer
from tests.run_folders import run_folder
from tests.scored_groups import scored_group
from tests.step_records import metrics_of

OUTCOMES = {1.0: Outcome.MATCH, 0.1: Outcome.MISMATCH, 0.0: Outcome.SYNTAX_ERROR}


def group(number: int, *answers: tuple[str | None, float | None, bool]) -> ScoredGroup:
    """Return a question's group; an answer is SQL, reward, and whether its result is empty."""
    made = scored_group([(OUTCOMES.get(reward, Outcome.MISMATCH), reward) for _, reward, _ in answers], f"q{number}")
    question = Question(question_id=f"q{number}", database_id="shop", text="?", gold_sql=(f"SELECT {number} FROM t",))
    scores = tuple(
        replace(score, sql=sql, is_empty=is_empty)
        for score, (sql, _, is_empty) in zip(made.scores, answers, strict=True)
    )
    return replace(made, rollout=replace(made.rollout, question=question), scores=scores)


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1", "SELECT 'from'", "VALUES (1)", "SELECT 1 -- from t", 'SELECT "from"', "WITH x AS (SELECT 1) SELECT 2"],
)
def test_a_statement_that_reads_no_table_is_a_constant(sql):
    assert constant_reward_share([group(1, (sql, 1.0, False), ("SELECT a FROM t", 1.0, False))]) == 0.5


def test_an_answer_to_most_questions_is_a_constant_and_one_to_two_is_none():
    same = ("SELECT count(*) FROM t", 1.0, False)
    other = ("SELECT a FROM t", 1.0, False)
    assert constant_reward_share([group(1, same, other), group(2, same, other), group(3, same)]) == 0.6
    assert constant_reward_share([group(1, same), group(2, same), group(3, ("SELECT b FROM t", 1.0, False))]) == 0.0
    five = [group(number, same if number < 3 else (f"SELECT a{number} FROM t", 1.0, False)) for number in range(5)]
    assert constant_reward_share(five) == pytest.approx(0.6)
    seven = [*five, *(group(number, (f"SELECT a{number} FROM t", 1.0, False)) for number in (5, 6))]
    assert constant_reward_share(seven) == 0.0


def test_one_question_asked_by_many_names_is_no_constant():
    same = ("SELECT count(*) FROM t", 1.0, False)
    one = group(1, same)
    assert constant_reward_share([one, one, one, one]) == 0.0


def test_only_what_is_paid_counts_by_how_much():
    answers = group(1, ("SELECT a FROM t", 1.0, False), ("SELECT b FROM t", 0.1, True), ("SELECT 1", 0.0, True))
    assert empty_reward_share([answers]) == pytest.approx(0.1 / 1.1)
    assert constant_reward_share([answers]) == 0.0


@pytest.mark.parametrize("reward", [0.0, -1.0, None])
def test_where_nothing_is_paid_there_is_no_share(reward):
    made = group(1, ("SELECT 1", reward, True))
    assert math.isnan(constant_reward_share([made])) and math.isnan(empty_reward_share([made]))
    assert math.isnan(empty_reward_share([]))


def test_a_steps_record_has_both():
    record = metrics_of(group(1, ("SELECT 1", 1.0, True), ("SELECT a FROM t", 1.0, True)))
    assert (record.constant_reward_share, record.empty_reward_share) == (0.5, 1.0)


@pytest.mark.parametrize("semantics", ["bird", "spider", "strict"])
def test_a_score_says_whether_the_result_was_empty_the_second_time_too(semantics, tmp_path):
    run_folder(tmp_path / "run")
    scorer = Scorer(tmp_path / "run-data" / "databases", RewardSection(semantics=semantics))
    statements = (
        "SELECT count(*) FROM item",
        "SELECT name FROM item WHERE price > 99",
        "SELEC",
        "SELECT name FROM item",
    )
    request = ScoreRequest(
        question_id="q", database_id="shop", gold_sql=("SELECT count(*) FROM item",),
        candidates=tuple(Candidate(sql=sql) for sql in statements),
    )  # fmt: skip
    try:
        first, second = scorer.score(request), scorer.score(request)
        assert scorer.stats().num_cached > 0
        gold_empty = replace(
            request, gold_sql=("SELECT name FROM item WHERE price > 98",), candidates=request.candidates[1:2]
        )
        (match,) = scorer.score(gold_empty)
    finally:
        scorer.close()
    for scores in (first, second):
        assert [score.is_empty for score in scores] == [False, True, False, False]
    assert match.outcome is Outcome.MATCH and match.is_empty
