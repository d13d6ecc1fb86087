"""Examines a gold query's rows and text before it may judge (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from floe.reward_service.comparison.comparison import Row
from floe.reward_service.sql_text.statement import without_comments

_CHANCE = re.compile(r"\brandom(?:blob)?\s*\(", re.IGNORECASE)
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]")


def inspection_marks(rows: Sequence[Row], sql: str, kind: str) -> dict[str, Any]:
    """Return the fields of a `GoldInspection` other than outcome and message; `kind` is `golds` or `texts`."""
    return {
        "num_rows": len(rows),
        "is_degenerate": is_degenerate(rows),
        "changes_by": functions_of_chance(sql),
        "broken_row": first_broken_row(rows) if kind == "texts" else None,
    }


def is_degenerate(rows: Sequence[Row]) -> bool:
    """Return whether the only row holds nothing but NULL and 0: many a wrong query returns the same."""
    return len(rows) == 1 and all(cell is None or cell == 0 for cell in rows[0])


def first_broken_row(rows: Sequence[Row]) -> int | None:
    """Return the number, from 1, of the first row with text that is no UTF-8, which is read as lone surrogates."""
    for number, row in enumerate(rows, start=1):
        if any(isinstance(cell, str) and _is_broken(cell) for cell in row):
            return number
    return None


def functions_of_chance(sql: str) -> tuple[str, ...]:
    """Return the functions in `sql`, outside of quotes and comments, whose value changes from run to run."""
    bare = _QUOTED.sub("''", without_comments(sql))
    return tuple(dict.fromkeys(match.group().rstrip("( \t\n").lower() for match in _CHANCE.finditer(bare)))


def _is_broken(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)
