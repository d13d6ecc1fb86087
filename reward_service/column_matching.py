"""Equality of two multisets (or lists) of rows up to the order of their columns, in bounded work (pure)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

Row = tuple[Any, ...]

SPARE_CELLS = 2_000_000  # cells looked at beyond one straight walk over the columns, before giving up as "different"


def equal_up_to_column_order(gold: Sequence[Row], rows: Sequence[Row], *, ordered: bool) -> bool:
    """Whether some order of the columns of `rows` makes them equal to `gold`; rows and columns are equally many.

    A search that exceeds its budget answers False.
    """
    gold_columns, columns = list(zip(*gold, strict=True)), list(zip(*rows, strict=True))
    if ordered:
        return Counter(gold_columns) == Counter(columns)
    gold_prints, prints = _fingerprints(gold_columns), _fingerprints(columns)
    if Counter(gold_prints) != Counter(prints):
        return False
    choices: dict[Hashable, list[int]] = defaultdict(list)
    for index, fingerprint in enumerate(prints):
        choices[fingerprint].append(index)
    # Columns with the fewest candidates first: they settle the rows before any choice has to be made.
    order = sorted(range(len(gold_columns)), key=lambda index: len(choices[gold_prints[index]]))
    search = _Search(
        [gold_columns[index] for index in order], [choices[gold_prints[index]] for index in order], columns
    )
    return search.found()


def _fingerprints(columns: Sequence[Row]) -> list[Hashable]:
    return [frozenset(Counter(column).items()) for column in columns]


class _Search:
    """Depth-first assignment of columns; the rows built so far must agree as multisets at every depth.

    A row built so far is one number, shared by both sides, so that a step costs one look at each row.
    """

    def __init__(self, gold_columns: Sequence[Row], choices: Sequence[list[int]], columns: Sequence[Row]) -> None:
        self._gold_columns = gold_columns
        self._choices = choices
        self._columns = columns
        self._num_rows = len(columns[0]) if columns else 0
        self._cells_left = len(columns) * self._num_rows + SPARE_CELLS
        column_ids: dict[Row, int] = {}
        self._same_as = [column_ids.setdefault(column, index) for index, column in enumerate(columns)]

    def found(self) -> bool:
        start = [0] * self._num_rows
        # An explicit stack: a result may have more columns than Python allows nested calls.
        stack = [(start, start, frozenset[int](), self._candidates(0, frozenset()))]
        while stack:
            gold_ids, ids, used, candidates = stack[-1]
            depth = len(stack) - 1
            if depth == len(self._gold_columns):
                return True
            if not candidates:
                stack.pop()
                continue
            index = candidates.pop()
            self._cells_left -= self._num_rows
            if self._cells_left < 0:
                return False
            extended = self._extend(gold_ids, ids, self._gold_columns[depth], self._columns[index])
            if extended is not None:
                taken = used | {index}
                stack.append((*extended, taken, self._candidates(depth + 1, taken)))
        return False

    def _candidates(self, depth: int, used: frozenset[int]) -> list[int]:
        """Unused columns for this depth, one of each group of equal ones."""
        if depth == len(self._choices):
            return []
        by_content = {self._same_as[index]: index for index in reversed(self._choices[depth]) if index not in used}
        return list(by_content.values())

    @staticmethod
    def _extend(
        gold_ids: list[int], ids: list[int], gold_column: Row, column: Row
    ) -> tuple[list[int], list[int]] | None:
        numbers: dict[tuple[int, Any], int] = {}
        new_gold = [numbers.setdefault(pair, len(numbers)) for pair in zip(gold_ids, gold_column, strict=True)]
        num_known = len(numbers)
        new = [numbers.setdefault(pair, len(numbers)) for pair in zip(ids, column, strict=True)]
        if len(numbers) != num_known or Counter(new_gold) != Counter(new):
            return None
        return new_gold, new
