"""An evaluation of a part of the questions asks the first ones, or ones from everywhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from floe.actors.questions.chosen import chosen_questions
from floe.cluster.messages import Question


def questions(number: int, num_databases: int = 4) -> list[Question]:
    per_database = -(-number // num_databases) or 1
    return [
        Question(question_id=str(i), database_id=f"db{i // per_database}", text="Which?", gold_sql=("SELECT 1",))
        for i in range(number)
    ]


@given(st.integers(0, 200), st.integers(1, 250), st.sampled_from(("first", "spread")))
def test_they_are_as_many_as_asked_for_in_their_order_and_each_once(number, most, choice):
    given_questions = questions(number)
    chosen = chosen_questions(given_questions, most, choice)
    assert len(chosen) == min(number, most)
    places = [given_questions.index(one) for one in chosen]
    assert places == sorted(set(places))
    if number <= most:
        assert chosen == given_questions


def test_the_spread_takes_the_same_share_of_each_database():
    chosen = chosen_questions(questions(100), 20, "spread")
    assert [sum(one.database_id == f"db{i}" for one in chosen) for i in range(4)] == [5, 5, 5, 5]
    assert {one.database_id for one in chosen_questions(questions(100), 20, "first")} == {"db0"}
