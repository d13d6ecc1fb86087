"""Votes over results: by exact set of rows and by soft similarity."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.cluster.evaluation.voting import exact_vote, similarity, soft_vote
from floe.cluster.messages import ResultProfile
from floe.reward_service.comparison.result_profile import column_counts, rows_digest


def ballot(*rows: tuple, names: tuple[str, ...] = ("a", "b")) -> ResultProfile:
    used = names[: len(rows[0])] if rows else ()
    return ResultProfile(
        digest=rows_digest(rows),
        num_rows=len(rows),
        column_counts=column_counts(used, rows),
        soft_f1=0.0,
        is_bird_match=False,
        is_spider_match=False,
    )


RESULTS = [None, ballot(), ballot((1,)), ballot((1,), (2,)), ballot((2,), (1,)), ballot((1, "x")), ballot((3,))]
BALLOTS = st.lists(st.sampled_from(RESULTS), min_size=1, max_size=8)


@given(BALLOTS)
def test_the_exact_vote_is_the_first_of_a_most_frequent_set(ballots):
    winner = exact_vote(ballots)
    counts = Counter(one.digest for one in ballots if one is not None)
    if winner is None:
        assert not counts
    else:
        assert counts[ballots[winner].digest] == max(counts.values())
        tied = [i for i, one in enumerate(ballots) if one and counts[one.digest] == max(counts.values())]
        assert winner == tied[0]


@given(BALLOTS, st.randoms(use_true_random=False))
def test_the_winning_weight_does_not_hang_on_the_order_of_the_samples(ballots, rng: random.Random):
    shuffled = rng.sample(ballots, len(ballots))

    def weights(of: list) -> tuple:
        exact, soft = exact_vote(of), soft_vote(of)
        if exact is None:
            return (None, soft)
        votes = sum(one is not None and one.digest == of[exact].digest for one in of)
        sums = sum(1.0 if i == soft else similarity(of[soft], other) for i, other in enumerate(of))
        return votes, pytest.approx(sums)

    assert weights(ballots) == weights(shuffled)


@given(st.sampled_from(RESULTS[1:]), st.sampled_from(RESULTS[1:]))
def test_similarity_is_symmetric_and_1_only_for_the_same_columns_of_values(a, b):
    assert similarity(a, b) == similarity(b, a)
    assert 0 <= similarity(a, b) <= 1
    assert (similarity(a, b) == 1) == (a.num_rows > 0 and a.column_counts == b.column_counts)


def test_similarity_by_hand():
    # Column a: 1, 1, 2 against 1, 2, 3: min 1 + 1, max 2 + 1 + 1; column b on one side only: max 3.
    assert similarity(ballot((1,), (1,), (2,)), ballot((1,), (2,), (3,))) == 2 / 4
    assert similarity(ballot((1,), (1,), (2,)), ballot((1, "x"), (2, "x"), (3, "y"))) == 2 / 7
    assert similarity(ballot((1,)), ballot((1,), names=("alias",))) == 0
    assert similarity(ballot(), ballot()) == 0 and similarity(ballot((1,)), None) == 0


def test_the_soft_vote_prefers_what_overlaps_with_many():
    # Three different results that share values beat two equal ones that share none.
    near = [ballot((1,), (2,), (3,)), ballot((1,), (2,), (4,)), ballot((1,), (2,), (3,), (4,))]
    apart = [ballot((9,)), ballot((9,))]
    assert exact_vote([*near, *apart]) == 3
    assert soft_vote([*near, *apart]) == 2


def test_empty_and_failed_results_lose_the_soft_vote_to_any_agreement():
    assert soft_vote([None, ballot(), ballot(), ballot((1,)), ballot((1,))]) == 3
    assert soft_vote([None, ballot()]) == 1
    assert exact_vote([None, ballot(), ballot(), ballot((1,))]) == 1
    assert (exact_vote([None, None]), soft_vote([None, None])) == (None, None)


def test_results_without_counts_go_by_their_digest():
    large = ResultProfile(
        digest="x", num_rows=9, column_counts=None, soft_f1=0.0, is_bird_match=False, is_spider_match=False
    )
    assert similarity(large, large) == 1 and similarity(large, ballot((1,))) == 0
