"""Bootstrap intervals and pass@k: hand-computed cases, and what holds for every input."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.cluster.evaluation.intervals import mean_interval, paired_difference, pass_at_k

shares = st.lists(st.floats(0, 1), min_size=1, max_size=40).map(np.array)


def test_a_constant_has_an_interval_of_no_width():
    interval = mean_interval(np.full(7, 0.25), 200, seed=1)
    assert (interval.mean, interval.low, interval.high, interval.num_questions) == (0.25, 0.25, 0.25, 7)


def test_two_questions_by_hand():
    # Resampled means of (0, 1) are 0, 1/2, 1 with chances 1/4, 1/2, 1/4: both tails lie at the ends.
    interval = mean_interval(np.array([0.0, 1.0]), 2000, seed=3)
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.0, 1.0)


def test_the_width_is_that_of_the_normal_approximation():
    values = np.array([0.0] * 300 + [1.0] * 100)
    interval = mean_interval(values, 10_000, seed=5)
    half_width = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert interval.low == pytest.approx(0.25 - half_width, abs=0.004)
    assert interval.high == pytest.approx(0.25 + half_width, abs=0.004)


def test_a_paired_difference_is_narrower_than_the_two_intervals():
    difficulty = np.linspace(0, 0.9, 50)
    difference = paired_difference(difficulty + 0.1, difficulty, 1000, seed=1)
    assert difference.low == pytest.approx(0.1)
    assert difference.high == pytest.approx(0.1)


def test_large_inputs_are_drawn_in_pieces(monkeypatch):
    values = np.arange(10.0)
    whole = mean_interval(values, 500, seed=2)
    monkeypatch.setattr("floe.cluster.evaluation.intervals.MAX_DRAWS_AT_ONCE", 30)
    assert mean_interval(values, 500, seed=2) == whole


@given(values=shares, seed=st.integers(0, 1000))
def test_an_interval_lies_within_the_values_and_repeats(values, seed):
    interval = mean_interval(values, 100, seed)
    assert values.min() - 1e-9 <= interval.low <= interval.high <= values.max() + 1e-9
    assert interval == mean_interval(values, 100, seed)


@given(values=shares, seed=st.integers(0, 1000))
def test_a_difference_to_oneself_is_zero(values, seed):
    difference = paired_difference(values, values, 100, seed)
    assert (difference.mean, difference.low, difference.high) == (0, 0, 0)


@pytest.mark.parametrize("values", [[], [float("nan")], [[1.0, 2.0]]])
def test_what_has_no_mean_is_refused(values):
    with pytest.raises(ValueError, match="finite value per question"):
        mean_interval(np.array(values), 100, seed=1)


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="resample"):
        mean_interval(np.ones(3), 0, seed=1)
    with pytest.raises(ValueError, match="same questions"):
        paired_difference(np.ones(3), np.ones(4), 100, seed=1)


@pytest.mark.parametrize(
    ("num_samples", "num_correct", "k", "expected"),
    [(8, 0, 8, 0.0), (8, 1, 8, 1.0), (8, 1, 1, 0.125), (4, 2, 2, 5 / 6), (10, 3, 5, 1 - 21 / 252), (5, 5, 1, 1.0)],
)
def test_pass_at_k_by_hand(num_samples, num_correct, k, expected):
    assert pass_at_k(num_samples, num_correct, k) == pytest.approx(expected)


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(case):
    num_samples, num_correct, k = case
    hits = sum(any(i < num_correct for i in chosen) for chosen in combinations(range(num_samples), k))
    assert pass_at_k(num_samples, num_correct, k) == pytest.approx(hits / comb(num_samples, k))


def test_pass_at_k_of_many_samples_does_not_overflow():
    assert 0 < pass_at_k(10_000, 3, 500) < 1


@pytest.mark.parametrize("case", [(8, 9, 1), (8, -1, 1), (8, 1, 0), (8, 1, 9), (0, 0, 1)])
def test_pass_at_k_outside_its_range(case):
    with pytest.raises(ValueError, match="not defined"):
        pass_at_k(*case)
