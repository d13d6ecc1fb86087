"""Decides whether two result sets give the same answer, by the named semantics (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from floe.reward_service.comparison.column_matching import RowMultiset, equal_up_to_column_order
from floe.reward_service.comparison.float_tolerance import merge_close_floats
from floe.reward_service.verdict import ResultTooLarge

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Answer:
    """Rows that one query returned. `ordered` says whether its outermost statement has ORDER BY.

    `description` is the driver's: one sequence per column, which begins with the name.
    """

    rows: list[Row]
    num_columns: int
    ordered: bool = False
    description: Sequence[Sequence[Any]] = ()

    @cached_property
    def distinct_rows(self) -> frozenset[Row]:
        return frozenset(self.rows)

    @cached_property
    def row_multiset(self) -> RowMultiset:
        return RowMultiset(self.rows)


def prepare_gold(semantics: str, gold: Answer) -> None:
    """Compute in advance, once, what every comparison with `gold` needs."""
    if semantics == "bird":
        _ = gold.distinct_rows
    elif semantics == "spider":
        _ = gold.row_multiset


def answers_match(semantics: str, gold: Answer, prediction: Answer, float_tolerance: float = 0.0) -> bool:
    """Return whether `prediction` answers as `gold` does; `float_tolerance` is relative, 0 compares exactly.

    Raises KeyError for semantics other than `bird`, `spider` and `strict`, and ResultTooLarge where `spider` can't find
    the order of the columns within its budget.
    """
    same = _SEMANTICS[semantics]
    if same(gold, prediction):
        return True
    if float_tolerance <= 0 or gold.num_columns != prediction.num_columns:
        return False
    gold_rows, rows = merge_close_floats(
        gold.rows, prediction.rows, float_tolerance, with_integers=semantics != "strict"
    )
    return same(Answer(gold_rows, gold.num_columns, gold.ordered), Answer(rows, prediction.num_columns))


def matches_any(semantics: str, golds: Iterable[Answer], prediction: Answer, float_tolerance: float) -> bool:
    """Return whether `prediction` answers as one of `golds` does.

    Raises ResultTooLarge when no gold is known to match and one of them can't be compared.
    """
    too_large = None
    for gold in golds:
        try:
            if answers_match(semantics, gold, prediction, float_tolerance):
                return True
        except ResultTooLarge as error:
            too_large = error
    if too_large is not None:
        raise too_large
    return False


def _bird(gold: Answer, prediction: Answer) -> bool:
    return gold.distinct_rows == set(prediction.rows)


def _spider(gold: Answer, prediction: Answer) -> bool:
    if not gold.rows and not prediction.rows:
        return True
    if len(gold.rows) != len(prediction.rows) or gold.num_columns != prediction.num_columns:
        return False
    return equal_up_to_column_order(gold.row_multiset, prediction.rows, ordered=gold.ordered)


def _strict(gold: Answer, prediction: Answer) -> bool:
    if gold.num_columns != prediction.num_columns or len(gold.rows) != len(prediction.rows):
        return False
    gold_rows, rows = _with_storage_class(gold.rows), _with_storage_class(prediction.rows)
    return list(gold_rows) == list(rows) if gold.ordered else Counter(gold_rows) == Counter(rows)


def _with_storage_class(rows: Iterable[Row]) -> Iterable[tuple[Row, Row]]:
    """Pair each row with the types of its cells, so that 1 and 1.0 differ."""
    return ((tuple(map(type, row)), row) for row in rows)


_SEMANTICS: Mapping[str, Callable[[Answer, Answer], bool]] = {"bird": _bird, "spider": _spider, "strict": _strict}
