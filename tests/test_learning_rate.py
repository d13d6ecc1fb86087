"""The learning rate of a step: warm-up, cosine, constant."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.learner.optimizer.schedule import learning_rate

schedules = st.sampled_from(["cosine", "constant"])


def rates(num_steps: int, warmup_share: float, schedule: str, peak: float = 1.0, min_share: float = 0.1) -> list[float]:
    return [learning_rate(step, num_steps, peak, warmup_share, schedule, min_share) for step in range(num_steps)]


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_warm_up_rises_linearly_to_the_peak_and_does_not_begin_at_zero(schedule):
    assert rates(20, 0.2, schedule, peak=4.0)[:4] == pytest.approx([1.0, 2.0, 3.0, 4.0])


def test_a_part_of_a_warm_up_step_counts_as_a_whole_one():
    assert rates(10, 0.25, "constant")[:4] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_without_warm_up_the_first_step_has_the_peak(schedule):
    assert rates(10, 0.0, schedule, peak=3e-5)[0] == pytest.approx(3e-5)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_run_of_one_step_has_the_peak(schedule):
    assert rates(1, 0.1, schedule) == [1.0]


def test_constant_stays_at_the_peak_after_the_warm_up():
    assert rates(20, 0.1, "constant", peak=2.0)[2:] == [2.0] * 18


def test_cosine_by_hand():
    # no warm-up, 4 steps, end at 0.2: 0.2 + 0.8 * (1 + cos(k pi / 4)) / 2
    expected = [1.0, 0.6 + 0.4 * math.sqrt(0.5), 0.6, 0.6 - 0.4 * math.sqrt(0.5)]
    assert rates(4, 0.0, "cosine", min_share=0.2) == pytest.approx(expected)


def test_cosine_falls_from_the_peak_over_the_steps_after_the_warm_up():
    # 2 steps of warm-up, 8 of cosine to 0.2: half-way down at step 6
    found = rates(10, 0.2, "cosine", min_share=0.2)
    assert (found[1], found[2], found[6]) == pytest.approx((1.0, 1.0, 0.6))


@pytest.mark.parametrize("min_share", [0.0, 0.1, 1.0])
def test_cosine_ends_at_the_minimum_and_stays_there(min_share):
    for step in (50, 51, 1000):
        assert learning_rate(step, 50, 2.0, 0.1, "cosine", min_share) == pytest.approx(2.0 * min_share)


@given(num_steps=st.integers(1, 200), warmup_share=st.floats(0, 0.99), schedule=schedules, min_share=st.floats(0, 1))
def test_a_rate_is_positive_rises_in_the_warm_up_and_never_rises_after_it(num_steps, warmup_share, schedule, min_share):
    all_rates = rates(num_steps, warmup_share, schedule, min_share=min_share)
    assert all(0 < rate <= 1 for rate in all_rates)
    num_warmup = math.ceil(warmup_share * num_steps)
    warmup, rest = all_rates[:num_warmup], all_rates[num_warmup:]
    assert all(before < after for before, after in pairwise(warmup))
    assert all(before >= after for before, after in pairwise(rest))
    assert all(rate >= min_share * (1 - 1e-12) for rate in rest)
