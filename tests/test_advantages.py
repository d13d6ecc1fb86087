"""Group-relative advantages: hand-computed cases, and what holds for every batch of rewards."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.learner.loss.advantages import group_advantages, is_zero_variance

SCALES = ("none", "std", "batch")
ROOT_3 = math.sqrt(3)

# Hundredths, so that two rewards are either equal or clearly different; None carries no reward.
rewards = st.integers(-200, 200).map(lambda hundredths: hundredths / 100)
groups = st.lists(rewards, min_size=1, max_size=8)
masked_groups = st.lists(st.none() | rewards, min_size=1, max_size=8)
batches = st.lists(groups, min_size=1, max_size=4)
scales = st.sampled_from(SCALES)


def assert_close(actual: list[np.ndarray], expected: list) -> None:
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, np.array(other, dtype=np.float64), rtol=1e-9, atol=1e-9)


def usable(advantages: np.ndarray) -> np.ndarray:
    return advantages[~np.isnan(advantages)]


@pytest.mark.parametrize(
    ("scale", "batch", "expected"),
    [
        ("none", [[1.0, 0.0, 0.0, 1.0]], [[0.5, -0.5, -0.5, 0.5]]),
        ("none", [[1.0, 0.1, 0.1, 0.0]], [[0.7, -0.2, -0.2, -0.3]]),
        ("none", [[1.0, 0.0], [3.0, 0.0, 0.0]], [[0.5, -0.5], [2.0, -1.0, -1.0]]),
        # mean 1/4, std sqrt(3)/4
        ("std", [[1.0, 0.0, 0.0, 0.0]], [[ROOT_3, -1 / ROOT_3, -1 / ROOT_3, -1 / ROOT_3]]),
        # each group by its own std: 1/2 and 3/2
        ("std", [[1.0, 0.0], [3.0, 0.0]], [[1.0, -1.0], [1.0, -1.0]]),
        # centred rewards +-1/2, +-3/2: mean square 5/4 over all four
        (
            "batch",
            [[1.0, 0.0], [3.0, 0.0]],
            [[0.5 / math.sqrt(1.25), -0.5 / math.sqrt(1.25)], [1.5 / math.sqrt(1.25), -1.5 / math.sqrt(1.25)]],
        ),
        # the zeros of the even group count in the batch's mean square: (1/4 + 1/4) / 4
        ("batch", [[1.0, 0.0], [0.1, 0.1]], [[math.sqrt(2), -math.sqrt(2)], [0.0, 0.0]]),
    ],
)
def test_cases_computed_by_hand(scale, batch, expected):
    assert_close(group_advantages(batch, scale), expected)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [1, 7, 8, 16, 64])
@pytest.mark.parametrize("reward", [0.0, 0.1, 1.0, -0.3, 1e9])
def test_equal_rewards_give_exactly_zero(scale, size, reward):
    (advantages,) = group_advantages([[reward] * size], scale)
    assert advantages.tolist() == [0.0] * size


@pytest.mark.parametrize("scale", SCALES)
def test_a_group_of_one_gets_zero(scale):
    alone, pair = group_advantages([[0.7], [1.0, 0.0]], scale)
    assert alone.tolist() == [0.0]
    assert pair[0] > 0 > pair[1]


@pytest.mark.parametrize("scale", SCALES)
def test_a_candidate_without_reward_is_nan_and_its_group_is_computed_without_it(scale):
    (masked,) = group_advantages([[1.0, None, 0.0, None, 0.0]], scale)
    (without,) = group_advantages([[1.0, 0.0, 0.0]], scale)
    assert np.isnan(masked).tolist() == [False, True, False, True, False]
    assert usable(masked).tolist() == without.tolist()


@pytest.mark.parametrize("scale", SCALES)
def test_a_group_without_any_reward_is_all_nan_and_leaves_the_others_alone(scale):
    nothing, pair = group_advantages([[None, None], [1.0, 0.0]], scale)
    assert np.isnan(nothing).all()
    assert_close([pair], group_advantages([[1.0, 0.0]], scale))


@pytest.mark.parametrize("scale", SCALES)
def test_one_reward_among_masked_candidates_gets_zero(scale):
    (advantages,) = group_advantages([[None, 0.1, None]], scale)
    assert advantages[1] == 0.0


@pytest.mark.parametrize("scale", SCALES)
def test_a_batch_of_no_groups_is_empty(scale):
    assert group_advantages([], scale) == []


@pytest.mark.parametrize("scale", SCALES)
def test_advantages_are_float64(scale):
    assert all(one.dtype == np.float64 for one in group_advantages([[1, 0], [None, 1]], scale))


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ([0.1] * 16, True),
        ([1.0], True),
        ([None, 0.1, None, 0.1], True),
        ([None, None], True),
        ([1.0, 0.0], False),
        ([None, 1.0, 0.1], False),
    ],
)
def test_zero_variance_looks_at_usable_rewards_only(group, expected):
    assert is_zero_variance(group) is expected


@given(batch=batches, scale=scales, shift=st.integers(-5, 5))
def test_a_shift_of_all_rewards_changes_nothing(batch, scale, shift):
    shifted = [[reward + shift for reward in group] for group in batch]
    assert_close(group_advantages(shifted, scale), group_advantages(batch, scale))


@given(batch=batches, factor=st.floats(0.01, 100))
def test_a_scale_of_all_rewards_scales_the_advantages_without_std(batch, factor):
    scaled = [[reward * factor for reward in group] for group in batch]
    assert_close(group_advantages(scaled, "none"), [factor * one for one in group_advantages(batch, "none")])


@given(batch=batches, scale=st.sampled_from(["std", "batch"]), factor=st.floats(0.01, 100))
def test_a_scale_of_all_rewards_changes_nothing_with_std(batch, scale, factor):
    scaled = [[reward * factor for reward in group] for group in batch]
    assert_close(group_advantages(scaled, scale), group_advantages(batch, scale))


@given(data=st.data(), batch=st.lists(masked_groups, min_size=1, max_size=4), scale=scales)
def test_permuted_candidates_and_groups_get_permuted_advantages(data, batch, scale):
    orders = [data.draw(st.permutations(range(len(group)))) for group in batch]
    group_order = data.draw(st.permutations(range(len(batch))))
    permuted = [[batch[g][i] for i in orders[g]] for g in group_order]
    plain = group_advantages(batch, scale)
    assert_close(group_advantages(permuted, scale), [plain[g][orders[g]] for g in group_order])


@given(batch=st.lists(masked_groups, min_size=1, max_size=4), scale=scales)
def test_masked_candidates_are_irrelevant(batch, scale):
    with_masked = group_advantages(batch, scale)
    without = group_advantages([[reward for reward in group if reward is not None] for group in batch], scale)
    for group, one, other in zip(batch, with_masked, without, strict=True):
        assert np.isnan(one).tolist() == [reward is None for reward in group]
        assert usable(one).tolist() == other.tolist()


@given(batch=batches, scale=scales)
def test_advantages_of_a_group_sum_to_zero(batch, scale):
    assert_close([np.array(one.sum()) for one in group_advantages(batch, scale)], [0.0] * len(batch))


@given(group=groups)
def test_std_scaled_advantages_have_a_mean_square_of_one_unless_all_rewards_are_equal(group):
    (advantages,) = group_advantages([group], "std")
    assert np.mean(advantages**2) == pytest.approx(0.0 if is_zero_variance(group) else 1.0)
