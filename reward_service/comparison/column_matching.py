"""Equality of two multisets (or lists) of rows up to the order of their columns, in bounded work (pure)."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import mul
from typing import Any, TypeVar

from floe.reward_service.verdict import ResultTooLarge

Row = tuple[Any, ...]
C = TypeVar("C", bound=Hashable)

MAX_COUNTED = 1000  # distinct values of a column that are counted; above it sums of their hashes do
SPARE_CELLS = 4_000_000  # cells that the search may look at, beyond so many walks over the result:
NUM_WALKS = 30


class RowMultiset:
    """The rows of a gold result, to be compared with many others; computed only as far as needed."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self._distinct = frozenset(rows)

    def equals(self, rows: Sequence[Row]) -> bool:
        """Return whether `rows`, equal in number, are the same in any order; sets mostly settle it at half the cost."""
        if self._distinct != set(rows):
            return False
        return len(self._distinct) == len(self.rows) or self.counts == dict(Counter(rows))

    @cached_property
    def counts(self) -> dict[Row, int]:
        return dict(Counter(self.rows))  # two dicts are compared in C, two Counters are not

    @cached_property
    def columns(self) -> list[Row]:
        return list(zip(*self.rows, strict=True))

    @cached_property
    def prints(self) -> list[Hashable]:
        return [_fingerprint(column) for column in self.columns]


def equal_up_to_column_order(gold: RowMultiset, rows: Sequence[Row], *, ordered: bool) -> bool:
    """Return whether some order of the columns of `rows` makes them equal to `gold`; both have as many rows and
    columns.

    Raises ResultTooLarge when the search exceeds its budget.
    """
    if ordered:
        return Counter(gold.columns) == Counter(zip(*rows, strict=True))
    if gold.equals(rows):  # most right answers have their columns in the gold's order
        return True
    columns = list(zip(*rows, strict=True))
    prints: list[Hashable] = []
    missing = Counter(gold.prints)
    for column in columns:
        prints.append(_fingerprint(column))
        missing[prints[-1]] -= 1
        if missing[prints[-1]] < 0:
            return False
    contents = _contents(gold.columns, columns)
    if _open_class(gold.prints, prints, contents) is None:
        return _is_equal_in_order(columns, _order(gold.prints, prints), gold)
    return _Search(gold, dict(Counter(rows)), columns, contents).found(gold.prints, prints)


def _fingerprint(column: Row) -> Hashable:
    """Return a value independent of the rows' order; unlike columns may share it, which only costs search time."""
    distinct = set(column)
    if len(distinct) <= MAX_COUNTED:
        return frozenset(Counter(column).items())
    hashes = list(map(hash, column))
    return len(distinct), sum(hashes), sum(map(mul, hashes, hashes))


def _contents(gold_columns: Sequence[Row], columns: Sequence[Row]) -> tuple[list[int], list[int]]:
    """Return a number for each column of both sides; columns of one side with equal contents have the same."""
    gold_ids: dict[Row, int] = {}
    ids: dict[Row, int] = {}
    return (
        [gold_ids.setdefault(column, len(gold_ids)) for column in gold_columns],
        [ids.setdefault(column, len(ids)) for column in columns],
    )


def _open_class(
    gold_colours: Sequence[C], colours: Sequence[C], contents: tuple[Sequence[int], Sequence[int]]
) -> C | None:
    """Return the smallest class of columns in which it matters which is which; None where every class is settled."""
    sizes: dict[C, int] = {}
    for side, numbers in zip((gold_colours, colours), contents, strict=True):
        distinct: dict[C, set[int]] = defaultdict(set)
        for colour, number in zip(side, numbers, strict=True):
            distinct[colour].add(number)
        for colour, found in distinct.items():
            sizes[colour] = max(sizes.get(colour, 0), len(found))
    still_open = [colour for colour, size in sizes.items() if size > 1]
    return min(still_open, key=lambda colour: sizes[colour], default=None)


def _order(gold_colours: Sequence[Hashable], colours: Sequence[Hashable]) -> list[int]:
    """Return for each column of the gold the column of the same colour that stands in its place."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for index, colour in enumerate(colours):
        places[colour].append(index)
    return [places[colour].pop() for colour in gold_colours]


def _is_equal_in_order(columns: Sequence[Row], order: Sequence[int], gold: RowMultiset) -> bool:
    return gold.equals(list(zip(*(columns[index] for index in order), strict=True)))


@dataclass(frozen=True, slots=True)
class _Colours:
    """Numbers of columns and rows; those with unlike numbers on the two sides can't be in the same place."""

    gold_columns: list[int]
    columns: list[int]
    gold_rows: list[int]
    rows: list[int]

    def num_classes(self) -> int:
        return len(set(self.columns)) + len(set(self.rows))


class _RandomNumbers(dict[tuple[int, int], int]):
    """Random numbers of 62 bits, one for each key, the same each time."""

    def __init__(self) -> None:
        super().__init__()
        self._source = random.Random(0)

    def __missing__(self, key: tuple[int, int]) -> int:
        self[key] = number = self._source.getrandbits(62)
        return number


class _Search:
    """Colour refinement of rows and columns (Weisfeiler and Leman 1968), and a choice where refinement leaves one open.

    Cells are numbered by equality, and each pair of a colour and a cell gets a random number: their sums stand for
    multisets. Collisions are told apart later, or by the exact comparison at the end.
    """

    def __init__(
        self,
        gold: RowMultiset,
        counts: Mapping[Row, int],
        columns: Sequence[Row],
        contents: tuple[list[int], list[int]],
    ) -> None:
        self._gold = gold
        self._columns = columns
        self._contents = contents
        numbers: dict[Any, int] = {}
        self._gold_rows, self._rows = (  # distinct ones
            [[numbers.setdefault(cell, len(numbers)) for cell in row] for row in rows] for rows in (gold.counts, counts)
        )
        self._random = _RandomNumbers()
        self._multiplicities = list(gold.counts.values()), list(counts.values())
        num_cells = (len(self._gold_rows) + len(self._rows)) * len(columns)
        self._cells_left = NUM_WALKS * num_cells + SPARE_CELLS
        self._num_cells = num_cells

    def found(self, gold_prints: Sequence[Hashable], prints: Sequence[Hashable]) -> bool:
        """Return whether an order of the columns exists. Raises ResultTooLarge."""
        start = self._numbered((gold_prints, prints), self._multiplicities)
        waiting = [] if start is None else [start]
        while waiting:
            refined = self._refined(waiting.pop())
            if refined is None:
                continue
            colour = _open_class(refined.gold_columns, refined.columns, self._contents)
            if colour is None:
                order = _order(refined.gold_columns, refined.columns)
                if _is_equal_in_order(self._columns, order, self._gold):
                    return True
                continue
            waiting.extend(self._choices(refined, colour))
        return False

    def _choices(self, colours: _Colours, colour: int) -> Iterator[_Colours]:
        """Put one column of the gold in the place of each unlike column of its class."""
        own = len(colours.columns)  # a number that no column has
        gold_columns = list(colours.gold_columns)
        gold_columns[gold_columns.index(colour)] = own
        unlike = {self._contents[1][i]: i for i, one in enumerate(colours.columns) if one == colour}
        for index in unlike.values():
            columns = list(colours.columns)
            columns[index] = own
            yield _Colours(gold_columns, columns, colours.gold_rows, colours.rows)

    def _refined(self, colours: _Colours) -> _Colours | None:
        """Return colours refined as far as counting can; None where sides can't be equal. Raises ResultTooLarge."""
        while True:
            self._cells_left -= 2 * self._num_cells
            if self._cells_left < 0:
                raise ResultTooLarge("finding out whether its columns are the gold's in another order takes too long")
            gold_rows = self._prints(self._gold_rows, colours.gold_columns, colours.gold_rows)
            rows = self._prints(self._rows, colours.columns, colours.rows)
            finer = self._numbered((colours.gold_columns, colours.columns), (gold_rows, rows))
            if finer is None:
                return None
            gold_columns = self._prints(zip(*self._gold_rows, strict=True), finer.gold_rows, finer.gold_columns)
            columns = self._prints(zip(*self._rows, strict=True), finer.rows, finer.columns)
            finer = self._numbered((gold_columns, columns), (finer.gold_rows, finer.rows))
            if finer is None or finer.num_classes() == colours.num_classes():
                return finer
            colours = finer

    def _prints(
        self, lines: Iterable[Sequence[int]], across: Sequence[int], own: Sequence[int]
    ) -> list[tuple[int, int]]:
        """Return each row's or column's colour, and a number for the multiset of its cells and the colours across."""
        of_pair = self._random.__getitem__
        return [
            (mine, sum(map(of_pair, zip(across, line, strict=True)))) for mine, line in zip(own, lines, strict=True)
        ]

    @staticmethod
    def _numbered(
        columns: tuple[Sequence[Hashable], Sequence[Hashable]], rows: tuple[Sequence[Hashable], Sequence[Hashable]]
    ) -> _Colours | None:
        """Return colours as small numbers; None where the two sides have different ones."""
        if Counter(columns[0]) != Counter(columns[1]) or Counter(rows[0]) != Counter(rows[1]):
            return None
        of_column, of_row = _numbers(columns[0]), _numbers(rows[0])
        return _Colours(
            [of_column[one] for one in columns[0]],
            [of_column[one] for one in columns[1]],
            [of_row[one] for one in rows[0]],
            [of_row[one] for one in rows[1]],
        )


def _numbers(colours: Sequence[Hashable]) -> Mapping[Hashable, int]:
    return {colour: number for number, colour in enumerate(dict.fromkeys(colours))}
