"""Shares of a mixture's sources in its steps: exact to one question at every step, in an order that repeats nothing."""

from collections import Counter
from fractions import Fraction
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floe.actors.questions.mixed_steps import (
    MixedSource,
    in_turns,
    middle_of_mixed_step,
    mixed_refill_order,
    questions_of_mixed_step,
    shares_by_weight,
    shares_of_epochs,
)
from floe.actors.questions.quotas import quotas
from floe.actors.questions.random_streams import questions_of_step
from tests.mixtures import asked


def source(name: str, size: int, weight: float | None = None, repeat: int = 1) -> MixedSource:
    return MixedSource(name=name, questions=tuple(asked(name, name, size)), weight=weight, repeat=repeat)


def counts(step: list, sources: list[MixedSource]) -> list[int]:
    found = Counter(question.question_id.rstrip("0123456789") for question in step)
    return [found[one.name] for one in sources]


@settings(max_examples=150, deadline=None)
@given(weights=st.lists(st.integers(1, 5000), min_size=1, max_size=7), num_questions=st.integers(1, 24))
def test_every_step_and_all_steps_so_far_are_within_one_question_of_the_share(weights, num_questions):
    whole = sum(weights)
    shares = [Fraction(num_questions * one, whole) for one in weights]
    so_far = [0] * len(weights)
    for number, step in enumerate(islice(quotas([num_questions * one for one in weights], whole), 60), start=1):
        assert sum(step) == num_questions
        so_far = [known + new for known, new in zip(so_far, step, strict=True)]
        for share, new, known in zip(shares, step, so_far, strict=True):
            assert abs(new - share) < 1 and abs(known - number * share) < 1


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 3)), min_size=2, max_size=4), per_step=st.integers(1, 9)
)
def test_an_epoch_asks_every_question_as_often_as_its_source_is_repeated(shape, per_step):
    sources = [source(f"s{'abcd'[i]}", size, repeat=repeat) for i, (size, repeat) in enumerate(shape)]
    shares = shares_of_epochs(sources, per_step)
    if any(shares.most(i) > len(one.questions) for i, one in enumerate(sources)):
        with pytest.raises(ValueError, match="it has"):
            questions_of_mixed_step(sources, shares, 1, 0)
        return
    total = sum(size * repeat for size, repeat in shape)
    assert shares.denominator == -(-total // per_step)
    for epoch in range(2):
        steps = [
            questions_of_mixed_step(sources, shares, epoch * shares.denominator + number + 1, 3)
            for number in range(shares.denominator)
        ]
        assert all(len(set(step)) == len(step) <= per_step for step in steps)
        assert max(map(len, steps)) - min(map(len, steps)) <= 1
        times = Counter(question for step in steps for question in step)
        assert times == {question: one.repeat for one in sources for question in one.questions}


def test_weights_and_sizes_give_the_shares():
    by_weight = [source("a", 10, 2), source("b", 50, 0.5), source("c", 40, 0.5)]
    shares = shares_by_weight(by_weight, 6)
    steps = [questions_of_mixed_step(by_weight, shares, step, 0) for step in (1, 2)]
    assert [counts(step, by_weight) for step in steps] == [[4, 1, 1]] * 2
    by_size = [source("a", 10, repeat=3), source("b", 30)]
    shares = shares_by_weight(by_size, 4)
    assert counts(questions_of_mixed_step(by_size, shares, 1, 0), by_size) == [2, 2]


def test_each_source_keeps_the_order_that_it_has_alone():
    sources = [source("a", 8, 1), source("b", 12, 2)]
    shares = shares_by_weight(sources, 6)
    for step in range(1, 9):
        found = questions_of_mixed_step(sources, shares, step, 5)
        for one, count in zip(sources, (2, 4), strict=True):
            own = {question for question in found if question in one.questions}
            assert own == set(questions_of_step(one.questions, step, count, 5))
    orders = [questions_of_mixed_step(sources, shares, 1, seed) for seed in (5, 6)]
    assert orders[0] != orders[1]


def test_no_step_holds_a_question_twice_where_a_pass_over_the_source_ends_in_it():
    sources = [source("a", 5, 3), source("b", 40, 4)]
    shares = shares_by_weight(sources, 7)
    steps = [questions_of_mixed_step(sources, shares, step, 1) for step in range(1, 41)]
    assert all(len(set(step)) == 7 for step in steps)
    times = Counter(question.question_id for step in steps for question in step)
    assert {times[f"a{i}"] for i in range(5)} == {24}


def test_pass_rates_choose_within_the_share_and_refills_take_turns():
    sources = [source("a", 10, 1), source("b", 10, 1)]
    shares = shares_by_weight(sources, 4)
    rates = {f"{name}{i}": 0.0 for name in "ab" for i in range(8)}
    often = Counter(
        question.question_id
        for step in range(1, 31)
        for question in middle_of_mixed_step(sources, shares, rates, step, 0)
    )
    assert {name for name, _ in often.most_common(4)} == {"a8", "a9", "b8", "b9"}
    step = middle_of_mixed_step(sources, shares, rates, 1, 0)
    assert counts(step, sources) == [2, 2]
    order = mixed_refill_order(sources, shares, step, 1, 0)
    assert not set(order) & set(step) and len(order) == 16
    assert all({one.question_id[0], other.question_id[0]} == {"a", "b"} for one, other in list(pairwise(order))[::2])


def test_lists_take_turns_by_their_shares_and_are_asked_to_their_ends():
    first, second = asked("a", "a", 2), asked("b", "b", 6)
    assert [one.question_id[0] for one in in_turns([first, second], [1, 3])] == list("babbbabb")
