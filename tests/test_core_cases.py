"""Single cases of the pure core at its edges: what no general property of the other tests would notice."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from floe.learner.loss.advantages import STD_FLOOR, group_advantages
from floe.learner.loss.surrogates import surrogate
from floe.learner.packing.packs import Branch, PrefixGroup, empty_pack, make_packs, share_prefixes
from floe.reward_service.comparison import column_matching
from floe.reward_service.comparison.comparison import Answer, answers_match, matches_any, prepare_gold
from floe.reward_service.verdict import ResultTooLarge


def group(num_tokens: int, name: str = "") -> PrefixGroup:
    """A group of one prefix token and one branch."""
    return PrefixGroup(prefix_ids=(1,), branches=(Branch(token_ids=(2,) * (num_tokens - 1), weight=1.0),), name=name)


def test_groups_that_fill_a_pack_to_its_last_token_share_it():
    packs = make_packs([group(4, "a"), group(6, "b"), group(5, "c"), group(5, "d"), group(1, "e")], 10)
    assert [pack.sequence_names for pack in packs] == [("a", "b"), ("c", "d"), ("e",)]


def test_a_pack_on_another_device_is_there_as_a_whole():
    (pack,) = make_packs([PrefixGroup(prefix_ids=(1,), branches=group(3).branches * 2, name="a")], 10)
    moved = pack.to(torch.device("meta"))
    assert moved.sequence_names == ("a", "a") and moved.layout[0].branch_index.is_meta and moved.target.is_meta


def test_the_empty_pack_has_one_scored_token_without_weight():
    pack = empty_pack()
    assert pack.input_ids.tolist() == [[0, 0]] and pack.target.tolist() == [0] and pack.weight.tolist() == [0.0]


def test_types_depend_neither_on_pytorchs_default_nor_on_there_being_a_scored_token():
    unscored = PrefixGroup(prefix_ids=(1,), branches=(Branch(token_ids=(2,), loss_from=1, weight=1.0),))
    torch.set_default_dtype(torch.float64)
    try:
        packs = [make_packs([one], 10)[0] for one in (group(3), unscored)]
    finally:
        torch.set_default_dtype(torch.float32)
    for pack in packs:
        assert {pack.source.dtype, pack.target.dtype, pack.sequence.dtype} == {torch.int64}
        assert {pack.weight.dtype, pack.advantage.dtype, pack.engine_logprob.dtype} == {torch.float32}


def test_what_an_answer_does_not_score_stays_unscored_behind_a_shared_prefix():
    answer = Branch(token_ids=(7, 8, 9), loss_from=1, weight=1.0)
    shared = share_prefixes([((1, 2, 3, 4), answer), ((1, 2, 5), answer)])
    assert shared.prefix_ids == (1, 2)
    assert [branch.loss_from for branch in shared.branches] == [3, 2]


def test_prompts_without_a_common_token_are_refused_in_words():
    answer = Branch(token_ids=(7,), weight=1.0)
    with pytest.raises(ValueError, match=r"^prompts that differ in their first token have no prefix to share$"):
        share_prefixes([((1, 2), answer), ((3, 2), answer)])


def test_the_loss_that_lacks_sequences_is_named():
    one = torch.zeros(1)
    with pytest.raises(ValueError, match=r"^loss 'gspo' needs the sequence of each token$"):
        surrogate("gspo", logprob=one, old_logprob=one, advantage=one, clip_low=0.2, clip_high=0.2)


def test_advantages_are_of_double_precision_whatever_the_rewards_are():
    (found,) = group_advantages([[np.float32(0.1), np.float32(0.2), np.float32(0.4)]], "none")
    assert found.dtype == np.float64


def test_a_group_without_any_reward_has_no_advantages_and_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(group_advantages([[None, None]], "std")[0]).all()


def test_a_spread_at_the_floor_is_none():
    for scale in ("std", "batch"):
        assert group_advantages([[STD_FLOOR, -STD_FLOOR]], scale)[0].tolist() == [0.0, 0.0]


def matches(gold: list, rows: list, semantics: str = "bird", tolerance: float = 0.0, *, ordered: bool = False) -> bool:
    return answers_match(semantics, Answer(gold, 1, ordered), Answer(rows, 1), tolerance)


@pytest.mark.parametrize(
    ("gold", "near"), [(0, 1e-9), (0.0, 1e-9), (0, -1e-6), (0.0, 1e-6), (1.0, 2.0 - 1.0 + 2.0**-21), (0, 0.0)]
)
def test_floats_as_far_apart_as_the_tolerance_are_equal(gold, near):
    assert matches([(gold,)], [(near,)], tolerance=1e-6)


def test_a_distance_of_exactly_the_tolerance_is_close():
    assert matches([(1.0,)], [(2.0,)], tolerance=0.5)
    assert not matches([(1.0,)], [(2.0,)], tolerance=0.4999)


def test_the_tolerance_around_zero_reaches_neither_one_nor_null():
    assert not matches([(0.0,)], [(1.0,)], tolerance=1e-6)
    assert not matches([(0,), (5.0,)], [(1.0,), (5.0,)], tolerance=1e-6)
    assert not matches([(None,), (0.0,)], [(1e-9,), (0.0,)], tolerance=1e-6)
    assert not matches([(math.inf,)], [(None,)], tolerance=1e-6)


def test_close_floats_are_no_integers_in_strict():
    assert not matches([(0,), (0.0,)], [(1e-9,), (0.0,)], "strict", 1e-6)


@pytest.mark.parametrize("semantics", ["spider", "strict"])
def test_an_order_that_is_asked_for_holds_for_close_floats_too(semantics):
    gold, near = [(1.0,), (2.0,)], [(1.0 + 1e-9,), (2.0,)]
    assert matches(gold, near, semantics, 1e-6, ordered=True)
    assert not matches(gold, near[::-1], semantics, 1e-6, ordered=True)
    assert matches(gold, near[::-1], semantics, 1e-6)


@pytest.mark.parametrize(
    ("semantics", "prepared"), [("bird", {"distinct_rows"}), ("spider", {"row_multiset"}), ("strict", set())]
)
def test_of_a_gold_that_is_prepared_which_its_comparisons_need(semantics, prepared):
    gold = Answer([(1,)], 1)
    prepare_gold(semantics, gold)
    assert {"distinct_rows", "row_multiset"} & vars(gold).keys() == prepared


def test_an_answer_needs_to_match_one_of_the_golds_within_the_tolerance():
    golds = [Answer([(1,)], 1), Answer([(2.0,)], 1)]
    for semantics in ("bird", "spider", "strict"):
        assert matches_any(semantics, golds, Answer([(1,)], 1), 0.0)
        assert matches_any(semantics, golds, Answer([(2.0 + 1e-9,)], 1), 1e-6)
        assert not matches_any(semantics, golds, Answer([(2.0 + 1e-9,)], 1), 0.0)
        assert not matches_any(semantics, [], Answer([(3,)], 1), 0.0)


def identity(size: int) -> list:
    """Rows whose columns only a choice tells apart."""
    return [tuple(int(column in (row, (row + 1) % size)) for column in range(size)) for row in range(size)]


def test_a_gold_that_cannot_be_compared_counts_only_where_no_other_matches(monkeypatch):
    monkeypatch.setattr(column_matching, "SPARE_CELLS", 0)
    monkeypatch.setattr(column_matching, "NUM_WALKS", 0)
    gold = identity(6)
    rows = [tuple(row[index] for index in (3, 1, 4, 5, 0, 2)) for row in gold]
    hard, same, other, prediction = Answer(gold, 6), Answer(rows, 6), Answer([(1,)], 1), Answer(rows, 6)
    with pytest.raises(ResultTooLarge, match=r"^finding out whether its columns are .* another order takes too long$"):
        matches_any("spider", [hard, other], prediction, 0.0)
    assert matches_any("spider", [hard, same], prediction, 0.0)
    assert not matches_any("spider", [other], prediction, 0.0)


def wide(size: int) -> list:
    """Two pairs of columns that are permutations of each other: one of many distinct values, one of two."""
    return [(row, size - 1 - row, row % 2, 1 - row % 2) for row in range(size)]


def test_columns_of_many_distinct_values_are_told_apart_by_their_hashes():
    many = column_matching.MAX_COUNTED + 200
    rows = wide(many)
    assert answers_match("spider", Answer(rows, 4), Answer([row[::-1] for row in rows], 4))
    other = [(*row[:3], 0) for row in rows]
    assert not answers_match("spider", Answer(rows, 4), Answer([row[::-1] for row in other], 4))
    assert not answers_match("spider", Answer(rows, 4), Answer([(*row[:1], row[1] + 1, *row[2:]) for row in rows], 4))


def walks_needed(gold: list, rows: list, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the walks over both results that the search needs, found by raising its budget."""
    monkeypatch.setattr(column_matching, "SPARE_CELLS", 0)
    for num_walks in range(100):
        monkeypatch.setattr(column_matching, "NUM_WALKS", num_walks)
        try:
            assert answers_match("spider", Answer(gold, len(gold[0])), Answer(rows, len(gold[0])))
        except ResultTooLarge:
            continue
        return num_walks
    raise AssertionError("the search never ended")


def test_the_budget_of_a_search_is_counted_in_walks_over_the_results(monkeypatch):
    gold = identity(8)
    rows = [tuple(row[index] for index in (3, 1, 4, 7, 5, 0, 2, 6)) for row in gold]
    needed = walks_needed(gold, rows, monkeypatch)
    assert needed % 2 == 0 and 4 <= needed <= 20
    monkeypatch.setattr(column_matching, "NUM_WALKS", 0)
    cells = 2 * len(gold) * len(gold)
    monkeypatch.setattr(column_matching, "SPARE_CELLS", needed * cells)
    assert answers_match("spider", Answer(gold, 8), Answer(rows, 8))
    monkeypatch.setattr(column_matching, "SPARE_CELLS", needed * cells - 1)
    with pytest.raises(ResultTooLarge):
        answers_match("spider", Answer(gold, 8), Answer(rows, 8))


def test_without_a_tolerance_a_large_integer_is_not_the_float_that_it_would_round_to():
    assert not matches([(2**53 + 1,)], [(float(2**53),)], tolerance=0.0)


def test_rows_that_differ_in_how_often_each_occurs_alone_are_not_equal():
    gold = column_matching.RowMultiset([(1,), (1,), (2,)])
    assert gold.equals([(2,), (1,), (1,)]) and not gold.equals([(1,), (2,), (2,)])
    assert column_matching.RowMultiset([(1,), (2,)]).equals([(2,), (1,)])


def test_a_shared_prefix_ends_where_the_second_of_two_prompts_differs():
    answer = Branch(token_ids=(7,), weight=1.0)
    shared = share_prefixes([((1, 2, 3), answer), ((1, 9, 3), answer)])
    assert shared.prefix_ids == (1,) and [one.token_ids for one in shared.branches] == [(2, 3, 7), (9, 3, 7)]
