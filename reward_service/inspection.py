"""What is asked of a gold query before it may judge, from its rows and its text (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from reward_service.comparison import Row
from reward_service.statement import without_comments

_CHANCE = re.compile(r"\brandom(?:blob)?\s*\(", re.IGNORECASE)
_CLOCK_WORD = re.compile(r"\bcurrent_(?:date|time|timestamp)\b", re.IGNORECASE)
_DATE_FUNCTION = re.compile(r"\b(date|time|datetime|julianday|strftime|unixepoch|timediff)\s*\(", re.IGNORECASE)
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]")
_NOW = re.compile(r"['\"]now['\"]", re.IGNORECASE)


def inspection_marks(rows: Sequence[Row], sql: str, kind: str) -> dict[str, Any]:
    """The fields of a `GoldInspection` beside outcome and message; `kind` is `golds` or `texts`."""
    return {
        "num_rows": len(rows),
        "is_degenerate": is_degenerate(rows),
        "changes_by": functions_of_clock_or_chance(sql),
        "broken_row": first_broken_row(rows) if kind == "texts" else None,
    }


def is_degenerate(rows: Sequence[Row]) -> bool:
    """Whether the only row holds nothing but NULL and 0: many a wrong query returns the same."""
    return len(rows) == 1 and all(cell is None or cell == 0 for cell in rows[0])


def first_broken_row(rows: Sequence[Row]) -> int | None:
    """Number, from 1, of the first row with text that is no UTF-8, which the executor reads with lone surrogates."""
    for number, row in enumerate(rows, start=1):
        if any(isinstance(cell, str) and _is_broken(cell) for cell in row):
            return number
    return None


def functions_of_clock_or_chance(sql: str) -> tuple[str, ...]:
    """The functions in `sql`, outside of quotes and comments, whose value changes from run to run.

    A date function counts where it takes the clock: without a time value, or with 'now' among its arguments.
    """
    text = without_comments(sql)
    bare = _QUOTED.sub(lambda match: match.group()[0] + "_" * (len(match.group()) - 2) + match.group()[-1], text)
    found = [match.group().rstrip("( \t\n").lower() for match in _CHANCE.finditer(bare)]
    found += [match.group().lower() for match in _CLOCK_WORD.finditer(bare)]
    for match in _DATE_FUNCTION.finditer(bare):
        start, name = match.end(), match.group(1).lower()
        end = _closing_parenthesis(bare, start)
        num_arguments = 0 if not bare[start:end].strip() else 1 + _num_commas(bare[start:end])
        takes_clock = num_arguments == 0 or (name == "strftime" and num_arguments == 1)
        if takes_clock or _NOW.search(text[start:end]):
            found.append(name)
    return tuple(dict.fromkeys(found))


def _is_broken(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)


def _closing_parenthesis(text: str, start: int) -> int:
    depth = 1
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    return len(text)


def _num_commas(arguments: str) -> int:
    """Of the outermost level."""
    depth = num_commas = 0
    for character in arguments:
        depth += {"(": 1, ")": -1}.get(character, 0)
        num_commas += character == "," and depth == 0
    return num_commas
