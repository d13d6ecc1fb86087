"""The semantics of comparing two results."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.reward_service.comparison import column_matching
from floe.reward_service.comparison.comparison import Answer, Row, answers_match
from floe.reward_service.verdict import ResultTooLarge

CELLS = st.sampled_from([None, 0, 1, 1.0, 2.5, "", "1", "a", b"a", math.inf, 2**53 + 1, float(2**53)])


def rows_of(num_columns: int) -> st.SearchStrategy[list[Row]]:
    return st.lists(st.tuples(*[CELLS] * num_columns), max_size=5)


PAIRS = st.integers(1, 3).flatmap(lambda width: st.tuples(rows_of(width), rows_of(width)))


def answer(rows: list[Row], *, ordered: bool = False, num_columns: int | None = None) -> Answer:
    return Answer(rows, len(rows[0]) if num_columns is None else num_columns, ordered)


def same(semantics: str, gold: list[Row], rows: list[Row], *, ordered: bool = False, tolerance: float = 0.0) -> bool:
    return answers_match(semantics, answer(gold, ordered=ordered), answer(rows), tolerance)


@given(PAIRS)
def test_bird_is_equality_of_sets(pair: tuple[list[Row], list[Row]]) -> None:
    gold, rows = (answer(side, num_columns=1) for side in pair)
    assert answers_match("bird", gold, rows) == (set(pair[0]) == set(pair[1]))


@given(PAIRS, st.booleans())
def test_spider_is_equality_under_some_column_order(pair: tuple[list[Row], list[Row]], ordered: bool) -> None:
    gold, rows = pair
    width = len((gold + rows + [()])[0])
    expected = not gold and not rows
    for order in permutations(range(width)):
        permuted = [tuple(row[index] for index in order) for row in rows]
        expected = expected or (permuted == gold if ordered else Counter(permuted) == Counter(gold))
    result = answers_match("spider", answer(gold, ordered=ordered, num_columns=width), answer(rows, num_columns=width))
    assert result == expected


@given(PAIRS, st.booleans())
def test_strict_implies_the_others(pair: tuple[list[Row], list[Row]], ordered: bool) -> None:
    gold, rows = answer(pair[0], ordered=ordered, num_columns=2), answer(pair[1], num_columns=2)
    if answers_match("strict", gold, rows):
        assert pair[0] == pair[1] or not ordered
        assert answers_match("bird", gold, rows) and answers_match("spider", gold, rows)


def test_each_semantics_on_what_tells_them_apart() -> None:
    verdicts = {
        "row order": ([(1,), (2,)], [(2,), (1,)], "bird spider strict"),
        "duplicates": ([(1,), (1,)], [(1,)], "bird"),
        "column order": ([(1, "a"), (2, "b")], [("a", 1), ("b", 2)], "spider"),
        "int and float": ([(1,)], [(1.0,)], "bird spider"),
        "text and blob": ([("a",)], [(b"a",)], ""),
        "paired otherwise": ([(1, 2), (2, 1), (3, 3)], [(1, 1), (2, 2), (3, 3)], ""),
    }
    for name, (gold, rows, expected) in verdicts.items():
        matching = [semantics for semantics in ("bird", "spider", "strict") if same(semantics, gold, rows)]
        assert matching == expected.split(), name


def test_order_counts_when_the_gold_is_ordered() -> None:
    rows: list[Row] = [(1,), (2,)]
    assert same("bird", rows, rows[::-1], ordered=True)
    assert not same("spider", rows, rows[::-1], ordered=True)
    assert not same("strict", rows, rows[::-1], ordered=True)


def test_empty_results_of_different_width() -> None:
    empty, wider = answer([], num_columns=1), answer([], num_columns=3)
    assert answers_match("bird", empty, wider) and answers_match("spider", empty, wider)
    assert not answers_match("strict", empty, wider)


def seconds_of_a_loop() -> float:
    """Return the CPU time of a million empty rounds here, the unit for a bound on time."""
    started_s = time.thread_time()
    for _ in range(1_000_000):
        pass
    return time.thread_time() - started_s


def binary_columns(stream: random.Random, num_distinct: int, num_columns: int, num_rows: int) -> list[Row]:
    """Return rows whose columns all hold as many ones: nothing about a column alone tells it from another."""
    distinct = [tuple(stream.sample([0, 1] * (num_rows // 2), num_rows)) for _ in range(num_distinct)]
    chosen = [*distinct, *(stream.choice(distinct) for _ in range(num_columns - num_distinct))]
    return list(zip(*stream.sample(chosen, num_columns), strict=True))


@pytest.mark.parametrize("num_distinct, num_columns, num_rows", [(7, 48, 48), (7, 7, 48), (40, 48, 10), (12, 12, 8)])
def test_columns_that_only_their_company_tells_apart_are_found(num_distinct, num_columns, num_rows):
    stream = random.Random(7)
    gold = binary_columns(stream, num_distinct, num_columns, num_rows)
    order = stream.sample(range(num_columns), num_columns)
    rows = [tuple(row[index] for index in order) for row in stream.sample(gold, num_rows)]
    assert same("spider", gold, rows)
    swapped = [list(row) for row in rows]
    first, second = next((a, b) for a in range(num_rows) for b in range(num_rows) if rows[a][0] < rows[b][0])
    swapped[first][0], swapped[second][0] = swapped[second][0], swapped[first][0]
    changed = [tuple(row) for row in swapped]
    assert same("spider", gold, changed) == (Counter(changed) == Counter(rows))


def cycles(*lengths: int) -> list[Row]:
    """Return a row for each edge of a graph of cycles, a column for each node."""
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    edges = [(start + i, start + (i + 1) % n) for start, n in zip(starts, lengths, strict=True) for i in range(n)]
    return [tuple(int(node in edge) for node in range(sum(lengths))) for edge in edges]


@pytest.mark.parametrize("values", [(0, 1), (-1, -2), ("", 0), ("M", "F"), (None, 1.5)])
def test_pairs_of_values_whose_hashes_lie_near_are_told_apart(values):
    stream = random.Random(3)
    for rows in (cycles(20), cycles(7, 13), binary_columns(stream, 20, 20, 200), binary_columns(stream, 6, 6, 2000)):
        gold: list[Row] = [tuple(values[cell] for cell in row) for row in rows]
        order = stream.sample(range(len(gold[0])), len(gold[0]))
        assert same("spider", gold, [tuple(row[index] for index in order) for row in stream.sample(gold, len(gold))])


def test_what_counting_can_not_tell_apart_is_tried_and_too_long_a_try_is_said_to_be_one(monkeypatch):
    assert same("spider", cycles(3, 5, 4), cycles(4, 3, 5))
    assert not same("spider", cycles(6, 6), cycles(3, 9))
    monkeypatch.setattr(column_matching, "SPARE_CELLS", 0)
    monkeypatch.setattr(column_matching, "NUM_WALKS", 3)
    with pytest.raises(ResultTooLarge, match="another order takes too long"):
        same("spider", cycles(6, 6), cycles(3, 9))


@pytest.mark.parametrize("num_columns", [10, 30, 100, 1500])
def test_equal_columns_do_not_blow_up_the_search(num_columns: int) -> None:
    loop_s = seconds_of_a_loop()
    started_s = time.thread_time()
    assert same("spider", [(0,) * num_columns], [(0,) * num_columns])
    assert time.thread_time() - started_s < 50 * loop_s  # a search would take more than years


def test_hard_permutations_are_found_or_given_up_soon() -> None:
    stream = random.Random(5)
    # Every column holds the same multiset, so the fingerprints tell nothing.
    columns = [stream.sample(range(12), 12) for _ in range(12)]
    gold = list(zip(*columns, strict=True))
    shuffled = list(zip(*stream.sample(columns, 12), strict=True))
    assert same("spider", gold, stream.sample(shuffled, 12))
    bits = [[stream.randrange(2) for _ in range(200)] for _ in range(40)]
    others = [stream.sample(column, 200) for column in bits]
    loop_s = seconds_of_a_loop()
    started_s = time.thread_time()
    assert not same("spider", list(zip(*bits, strict=True)), list(zip(*others, strict=True)))
    assert time.thread_time() - started_s < 500 * loop_s


@pytest.mark.parametrize("semantics", ["bird", "spider", "strict"])
def test_what_a_sum_leaves_of_zero_is_zero_under_a_tolerance(semantics: str) -> None:
    zero, residue, small = (answer([(value,)]) for value in (0.0, 0.1 + 0.2 - 0.3, 1e-3))
    assert not answers_match(semantics, zero, residue)
    assert answers_match(semantics, zero, residue, 1e-6) and answers_match(semantics, residue, zero, 1e-6)
    assert not answers_match(semantics, zero, small, 1e-6)
    assert not answers_match(semantics, answer([(1e-8,)]), answer([(3e-8,)]), 1e-6)


def test_float_tolerance_is_relative_and_off_by_default() -> None:
    gold: list[Row] = [("a", 0.1 + 0.2, 7), ("b", 1e300, None), ("c", math.inf, 1)]
    rows: list[Row] = [("b", 1e300, None), ("a", 0.3, 7), ("c", math.inf, 1)]
    for semantics in ("bird", "spider", "strict"):
        assert not same(semantics, gold, rows)
        assert same(semantics, gold, rows, tolerance=1e-9)
    assert not same("bird", [(100.0,)], [(101.0,)], tolerance=1e-3)
    assert same("bird", [(-100.0,)], [(-100.01,)], tolerance=1e-3)
    assert not same("bird", [(1e308,)], [(math.inf,)], tolerance=0.1)


def test_integers_never_merge_but_take_up_floats() -> None:
    assert not same("bird", [(1_000_000,)], [(1_000_001,)], tolerance=1e-3)
    assert same("bird", [(3,)], [(2.9999999999,)], tolerance=1e-6)
    assert not same("strict", [(3,)], [(2.9999999999,)], tolerance=1e-6)
