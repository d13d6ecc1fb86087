"""Distribution of an update's packs to ranks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.learner.packing.packs import Branch, PrefixGroup
from floe.learner.packing.rank_balance import packs_of_ranks, rank_share


@pytest.mark.parametrize(
    ("num_tokens", "num_ranks", "expected"),
    [
        ([5, 3, 2], 1, [[0, 1, 2]]),
        ([5, 3, 2], 2, [[0], [1, 2]]),
        ([1, 1, 1, 9], 2, [[3], [0, 1, 2]]),  # three against one
        ([7], 2, [[0], []]),  # one against none
        ([], 2, [[], []]),
        ([4, 4, 4, 4], 2, [[0, 2], [1, 3]]),
    ],
)
def test_deals_by_hand(num_tokens, num_ranks, expected):
    assert packs_of_ranks(num_tokens, num_ranks) == expected


@given(st.lists(st.integers(1, 1000), max_size=40), st.integers(1, 8))
def test_every_pack_is_dealt_once_and_no_rank_is_fuller_than_it_must_be(num_tokens, num_ranks):
    dealt = packs_of_ranks(num_tokens, num_ranks)
    assert sorted(index for packs in dealt for index in packs) == list(range(len(num_tokens)))
    loads = [sum(num_tokens[index] for index in packs) for packs in dealt]
    # Graham's bound for any list schedule: the mean of the others and the last pack that was put on.
    assert max(loads) <= sum(num_tokens) / num_ranks + max(num_tokens, default=0) * (1 - 1 / num_ranks) + 1e-9


def test_the_shares_of_all_ranks_are_the_packs_of_one_and_have_the_same_rounds():
    groups = [
        PrefixGroup(prefix_ids=(1,) * 10, branches=(Branch(token_ids=(number,) * 20, weight=1.0),))
        for number in range(7)
    ]
    shares = [rank_share(groups, 30, rank, 3) for rank in range(3)]
    numbers = {
        int(pack.target[0]): number for share in shares for pack, number in zip(share.packs, share.numbers, strict=True)
    }
    assert numbers == {number: number for number in range(7)}
    assert [len(share.packs) for share in shares] == [3, 2, 2]
    assert {share.num_rounds for share in shares} == {3}
