"""Sizes of groups: they sum exactly, keep their bounds, are the best there are, and are larger for rare successes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.actors.questions.group_sizes import gain_of_candidate, group_sizes
from floe.actors.questions.posterior import Beta

COUNTS = st.floats(0.1, 40)
BETAS = st.builds(Beta, COUNTS, COUNTS)


def value(belief: Beta, size: int) -> float:
    """E[p (1 - p)^2 (1 - p^n - (1 - p)^n)], term by term."""
    return belief.moment(1, 2) - belief.moment(1 + size, 2) - belief.moment(1, 2 + size)


@given(beliefs=st.lists(BETAS, min_size=1, max_size=12), bounds=st.tuples(st.integers(2, 16), st.integers(16, 64)))
def test_sizes_sum_exactly_and_keep_their_bounds(beliefs, bounds):
    sizes = group_sizes(beliefs, 16 * len(beliefs), *bounds)
    assert sum(sizes) == 16 * len(beliefs) and len(sizes) == len(beliefs)
    assert all(bounds[0] <= one <= bounds[1] for one in sizes)


@given(belief=BETAS, size=st.integers(1, 63))
def test_a_candidates_gain_is_the_difference_of_the_values_and_falls(belief, size):
    gain = gain_of_candidate(belief, size + 1)
    assert gain == pytest.approx(value(belief, size + 1) - value(belief, size), rel=1e-6, abs=1e-9)
    assert gain <= gain_of_candidate(belief, size) * (1 + 1e-9)


@given(beliefs=st.lists(BETAS, min_size=3, max_size=3))
def test_no_other_sizes_have_a_larger_value(beliefs):
    def total(sizes):
        return sum(value(belief, size) for belief, size in zip(beliefs, sizes, strict=True))

    found = group_sizes(beliefs, 12, 2, 8)
    others = [sizes for sizes in itertools.product(range(2, 9), repeat=3) if sum(sizes) == 12]
    assert total(found) == pytest.approx(max(map(total, others)), rel=1e-9, abs=1e-12)


def test_a_rare_success_gets_more_than_an_even_chance_and_an_even_chance_more_than_a_rare_failure():
    rare, even, sure = Beta(2, 20), Beta(11, 11), Beta(20, 2)
    assert group_sizes([rare, even, sure], 48, 4, 48) == [29, 10, 9]
    assert group_sizes([sure, even, rare], 48, 4, 48) == [9, 10, 29]


def test_equal_questions_share_equally_and_the_first_gets_the_rest():
    assert group_sizes([Beta(1, 1)] * 3, 17, 2, 64) == [6, 6, 5]


@pytest.mark.parametrize("total", [5, 13])
def test_a_sum_outside_of_the_bounds_is_refused(total):
    with pytest.raises(ValueError, match=f"3 groups of 2 to 4 candidates do not sum to {total}"):
        group_sizes([Beta(1, 1)] * 3, total, 2, 4)
