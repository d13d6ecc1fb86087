"""Random streams derive from their purpose: a step's questions, those of its refill, and the seed of each group."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.actors.questions.random_streams import middle_of_step, questions_of_step, refill_order, stream_seed
from floe.cluster.messages import Question


def questions(count: int) -> list[Question]:
    return [
        Question(question_id=f"q{i}", database_id="shop", text="How many?", gold_sql=("SELECT 1",))
        for i in range(count)
    ]


def ids_of_step(count: int, step: int, num_questions: int, run_seed: int = 1) -> list[str]:
    return [q.question_id for q in questions_of_step(questions(count), step, num_questions, run_seed)]


def ids_of_epoch(count: int, epoch: int, num_questions: int, run_seed: int = 1) -> list[str]:
    steps = count // num_questions
    first = epoch * steps + 1
    return [one for step in range(first, first + steps) for one in ids_of_step(count, step, num_questions, run_seed)]


@given(count=st.integers(1, 60), share=st.floats(0.01, 1), step=st.integers(1, 10_000), run_seed=st.integers(0, 2**31))
def test_a_step_has_as_many_questions_as_asked_and_none_twice(count, share, step, run_seed):
    num_questions = max(1, int(share * count))
    found = ids_of_step(count, step, num_questions, run_seed)
    assert len(found) == len(set(found)) == num_questions


@pytest.mark.parametrize(("count", "num_questions"), [(24, 8), (25, 8), (31, 8), (8, 8), (5, 1)])
def test_an_epoch_asks_no_question_twice_and_all_that_fit_into_whole_steps(count, num_questions):
    for epoch in range(3):
        found = ids_of_epoch(count, epoch, num_questions)
        assert len(found) == len(set(found)) == count // num_questions * num_questions


def test_epochs_have_orders_of_their_own():
    orders = {tuple(ids_of_epoch(40, epoch, 8)) for epoch in range(10)}
    assert len(orders) == 10


def test_questions_left_over_at_an_epochs_end_come_up_in_another():
    seen = {one for epoch in range(10) for one in ids_of_epoch(15, epoch, 8)}
    assert len(seen) == 15


def test_runs_of_different_seeds_have_different_orders():
    assert len({tuple(ids_of_epoch(40, 0, 8, run_seed)) for run_seed in range(10)}) == 10


def test_a_step_gets_the_same_questions_whatever_was_asked_before():
    in_order = {step: ids_of_step(30, step, 4) for step in range(1, 40)}
    steps = list(in_order)
    random.Random(5).shuffle(steps)
    for step in steps:
        random.random()
        assert ids_of_step(30, step, 4) == in_order[step]


def test_the_questions_given_are_left_as_they_were():
    given_questions = questions(10)
    questions_of_step(given_questions, 3, 4, 1)
    assert given_questions == questions(10)


def test_a_step_that_needs_more_questions_than_there_are_is_refused():
    with pytest.raises(ValueError, match="needs 4 questions, there are 3"):
        questions_of_step(questions(3), 1, 4, 1)


def refill_ids(count: int, step: int, num_questions: int, run_seed: int = 1) -> list[str]:
    asked = questions_of_step(questions(count), step, num_questions, run_seed)
    return [q.question_id for q in refill_order(questions(count), asked, step, run_seed)]


@given(count=st.integers(1, 60), share=st.floats(0.01, 1), step=st.integers(1, 10_000), run_seed=st.integers(0, 2**31))
def test_a_step_and_its_refill_hold_every_question_once(count, share, step, run_seed):
    num_questions = max(1, int(share * count))
    asked = ids_of_step(count, step, num_questions, run_seed)
    further = refill_ids(count, step, num_questions, run_seed)
    assert sorted(asked + further) == sorted(q.question_id for q in questions(count))
    random.random()
    assert refill_ids(count, step, num_questions, run_seed) == further


def test_refills_of_different_steps_and_runs_have_different_orders():
    orders = set()
    for step in range(1, 100):
        for run_seed in (1, 11):
            further = refill_ids(30, step, 4, run_seed)
            # Ranks, since the lists of two steps differ by their members already.
            orders.add(tuple(sorted(further).index(one) for one in further))
    assert len(orders) == 198


def test_every_candidate_of_every_group_has_a_stream_of_its_own():
    seeds = [
        stream_seed(run_seed, purpose, question_id) + candidate
        for run_seed in (0, 1, 11)
        for purpose in ("step 1", "step 11", "step 2", "evaluation")
        for question_id in ("1", "11", "q1")
        for candidate in range(64)
    ]
    assert len(set(seeds)) == len(seeds)


@given(run_seed=st.integers(0, 2**63), purpose=st.text(max_size=20), question_id=st.text(max_size=20))
def test_a_seed_repeats_and_leaves_room_for_its_candidates_in_63_bits(run_seed, purpose, question_id):
    seed = stream_seed(run_seed, purpose, question_id)
    assert seed == stream_seed(run_seed, purpose, question_id)
    assert 0 <= seed < 2**62


@given(
    rates=st.dictionaries(st.integers(0, 39).map(str), st.floats(0, 1)),
    step=st.integers(1, 1000),
    num_questions=st.integers(1, 40),
    run_seed=st.integers(0, 2**31),
)
def test_a_step_from_the_middle_holds_no_question_twice_and_repeats(rates, step, num_questions, run_seed):
    drawn = [q.question_id for q in middle_of_step(questions(40), rates, step, num_questions, run_seed)]
    assert len(set(drawn)) == num_questions
    random.random()
    assert [q.question_id for q in middle_of_step(questions(40), rates, step, num_questions, run_seed)] == drawn


def test_the_middle_is_drawn_by_the_spread_of_its_rewards():
    ids = [one.question_id for one in questions(40)]
    rates = dict.fromkeys(ids[:10], 0.0) | dict.fromkeys(ids[10:20], 1.0) | dict.fromkeys(ids[20:30], 0.5)
    counts = Counter(
        one.question_id for step in range(1, 401) for one in middle_of_step(questions(40), rates, step, 1, 7)
    )
    of_ends, of_middle, of_unknown = (sum(counts[name] for name in part) for part in (ids[:20], ids[20:30], ids[30:]))
    # Expected 400 x (0.2, 2.5, 2.5) / 5.2; the bounds are 5 standard deviations away.
    assert of_ends < 36 and 140 < of_middle < 245 and 140 < of_unknown < 245


def test_a_step_from_the_middle_that_needs_too_many_is_refused():
    with pytest.raises(ValueError, match="needs 4 questions, there are 3"):
        middle_of_step(questions(3), {}, 1, 4, 1)
