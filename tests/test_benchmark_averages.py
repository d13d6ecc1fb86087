"""The macro average's interval, and the smallest difference that an interval resolves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floe.cluster.benchmark_table.averages import fewest_changes, macro_interval, smallest_resolved
from floe.cluster.evaluation.intervals import Interval, mean_interval, paired_difference

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30).map(np.array)


@given(VALUES, st.integers(0, 5))
@settings(max_examples=30)
def test_of_one_data_set_it_is_the_mean_with_its_own_interval(values, seed):
    macro, single = macro_interval([values], 200, seed), mean_interval(values, 200, seed)
    assert macro.num_questions == single.num_questions
    assert (macro.mean, macro.low, macro.high) == pytest.approx((single.mean, single.low, single.high))


@given(VALUES, st.integers(1, 5))
@settings(max_examples=30)
def test_of_equal_data_sets_it_is_their_mean(values, num_sets):
    macro = macro_interval([values] * num_sets, 100, 1)
    assert macro.mean == pytest.approx(values.mean())
    assert macro.num_questions == num_sets * len(values)
    assert values.min() - 1e-9 <= macro.low <= macro.high <= values.max() + 1e-9


def test_every_data_set_has_the_same_weight_whatever_its_size():
    sets = [np.ones(200), np.zeros(2)]
    assert macro_interval(sets, 100, 1) == Interval(mean=0.5, low=0.5, high=0.5, num_questions=202)


def test_the_interval_by_hand_is_that_of_independent_draws_within_each_set():
    """One set of a right and a wrong answer next to a certain one: the average is 1/2, 3/4 or 1, with 1/4, 1/2, 1/4."""
    macro = macro_interval([np.array([0.0, 1.0]), np.ones(5)], 20_000, 3)
    assert (macro.mean, macro.low, macro.high) == (0.75, 0.5, 1.0)


def test_the_width_is_that_of_the_formula_of_a_stratified_mean():
    generator = np.random.default_rng(0)
    sets = [(generator.random(size) < share).astype(float) for size, share in ((400, 0.3), (900, 0.6), (100, 0.5))]
    error = np.sqrt(sum(one.var() / one.size for one in sets)) / len(sets)
    macro = macro_interval(sets, 20_000, 1)
    assert (macro.high - macro.low) / 2 == pytest.approx(1.96 * error, rel=0.05)


def test_nothing_to_average_is_a_fault_of_the_caller():
    for values in ([], [np.ones(2), np.array([])], [np.array([np.nan])]):
        with pytest.raises(ValueError, match="macro average"):
            macro_interval(values, 10, 1)


@pytest.mark.parametrize(("num_questions", "expected"), [(1, 1), (2, 2), (3, 3), (10, 4), (30, 4), (1000, 4)])
def test_fewest_gains_that_an_interval_tells_from_nothing(num_questions, expected):
    assert fewest_changes(num_questions) == expected


@pytest.mark.parametrize("num_questions", [10, 40, 300])
def test_so_many_gains_lie_above_zero_and_one_fewer_do_not(num_questions):
    for num_gained, is_told in ((fewest_changes(num_questions), True), (fewest_changes(num_questions) - 1, False)):
        after = np.zeros(num_questions)
        after[:num_gained] = 1
        interval = paired_difference(after, np.zeros(num_questions), 20_000, 1)
        assert (interval.low > 0) is is_told


def test_the_smallest_difference_is_half_the_width_and_never_less_than_the_fewest_gains():
    wide = Interval(mean=0.1, low=-0.1, high=0.3, num_questions=50)
    assert smallest_resolved(wide, [50]) == pytest.approx(0.2)
    unchanged = Interval(mean=0.0, low=0.0, high=0.0, num_questions=50)
    assert smallest_resolved(unchanged, [50]) == pytest.approx(4 / 50)
    assert smallest_resolved(unchanged, [50, 400]) == pytest.approx(4 / 400 / 2)
