"""Makes floating-point cells of two result sets that lie close to each other equal (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = tuple[Any, ...]


def merge_close_floats(
    gold: Sequence[Row], rows: Sequence[Row], tolerance: float, *, with_integers: bool
) -> tuple[list[Row], list[Row]]:
    """Return both row lists with every group of floats no wider than `tolerance` (relative) replaced by one value.

    Where either side has a 0, a float no farther from 0 than `tolerance` becomes 0. A group that holds an integer of
    the data becomes that integer when `with_integers`; two integers never merge. Groups start at their smallest value.
    So among values dense at the scale of the tolerance two close ones may end in different groups; differences far
    below the tolerance, its purpose, are unaffected.
    """
    cells = [cell for side in (gold, rows) for row in side for cell in row]
    floats = {cell for cell in cells if cell.__class__ is float}
    integers = {cell for cell in cells if cell.__class__ is int} if with_integers else set()
    replacement = _replacements(floats, integers, tolerance)
    return _replace(gold, replacement), _replace(rows, replacement)


def _replacements(floats: set[float], integers: set[int], tolerance: float) -> Mapping[float, float | int]:
    group: list[float] = []
    anchor: float | int | None = None
    # In relative terms nothing is close to 0: a sum may leave a small rest where the other side has 0.
    near_zero = {value for value in floats if abs(value) <= tolerance} if 0 in floats | integers else set()
    replacement: dict[float, float | int] = dict.fromkeys(near_zero, 0 if 0 in integers else 0.0)
    for value in [*sorted((floats - near_zero) | integers), math.inf]:
        if group and not _close(group[0], value, tolerance):
            replacement.update((member, group[0] if anchor is None else anchor) for member in group)
            group, anchor = [], None
        group.append(value)
        if anchor is None and value in integers:
            anchor = int(value)
    return replacement


def _close(low: float, high: float, tolerance: float) -> bool:
    if math.isinf(low) or math.isinf(high):
        return low == high
    return high - low <= tolerance * max(abs(low), abs(high))


def _replace(rows: Sequence[Row], replacement: Mapping[float, float | int]) -> list[Row]:
    return [tuple(replacement.get(cell, cell) if cell.__class__ is float else cell for cell in row) for row in rows]
