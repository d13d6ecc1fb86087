"""The draw by a posterior: without replacement, by its probabilities, from seed, step and question alone."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.actors.questions.posterior import Beta
from floe.actors.questions.posterior_draw import draw_shares, order_by_posterior
from floe.cluster.messages import Question

COUNTS = st.floats(0.1, 40)
BELIEFS = {"even": Beta(10, 10), "rare": Beta(1, 19), "hopeless": Beta(0.01, 60)}


def question(name: str) -> Question:
    return Question(question_id=name, database_id="shop", text="How many?", gold_sql=("SELECT 1",))


def names(beliefs: dict[str, Beta], step: int = 1, seed: int = 1, exploration: float = 0.1) -> list[str]:
    order = order_by_posterior([question(name) for name in beliefs], beliefs, step, seed, exploration)
    return [one.question_id for one in order]


@given(
    beliefs=st.lists(st.builds(Beta, COUNTS, COUNTS), min_size=1, max_size=20),
    step=st.integers(1, 1000),
    seed=st.integers(0, 2**31),
    exploration=st.floats(0.001, 1),
)
def test_every_question_is_drawn_once_and_again_in_the_same_order(beliefs, step, seed, exploration):
    by_name = {f"q{i}": belief for i, belief in enumerate(beliefs)}
    found = names(by_name, step, seed, exploration)
    assert sorted(found) == sorted(by_name)
    assert found == names(by_name, step, seed, exploration)
    shares = draw_shares([question(name) for name in by_name], by_name, exploration)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= exploration / len(by_name) * (1 - 1e-9)


def test_the_order_does_not_depend_on_how_the_questions_are_given():
    shuffled = list(BELIEFS.items())
    for step in range(1, 20):
        random.Random(step).shuffle(shuffled)
        assert names(dict(shuffled), step) == names(BELIEFS, step)


def test_steps_and_seeds_have_draws_of_their_own():
    beliefs = {f"q{i}": Beta(1, 1) for i in range(20)}
    assert len({tuple(names(beliefs, step, seed)) for step in range(1, 6) for seed in range(5)}) == 25


def test_the_first_of_many_draws_follow_the_probabilities():
    num_steps = 4000
    first = Counter(names(BELIEFS, step)[0] for step in range(1, num_steps + 1))
    shares = draw_shares([question(name) for name in BELIEFS], BELIEFS, 0.1)
    for name, share in shares.items():
        spread = (num_steps * share * (1 - share)) ** 0.5
        assert abs(first[name] - num_steps * share) < 4 * spread, name


def test_a_draw_prefers_what_is_learnable_and_leaves_nothing_out():
    shares = draw_shares([question(name) for name in BELIEFS], BELIEFS, 0.1)
    assert shares["even"] > 4 * shares["rare"] > shares["hopeless"] > 0.033
    assert draw_shares([question(name) for name in BELIEFS], BELIEFS, 1.0) == pytest.approx(
        dict.fromkeys(BELIEFS, 1 / 3)
    )
