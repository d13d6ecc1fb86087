"""Fixes SQLite's clock at one instant, in the calls of a statement that ask for the time.

SQLite reads the machine's clock for 'now', for CURRENT_DATE and the like, and for a date function without a time value.
Such a call is renamed to a function of floe, which inserts the instant and leaves the rest to SQLite. All other calls
stay SQLite's own: over a column of dates these are ten times faster, and they take any text.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

INSTANT_FORMAT = "%Y-%m-%d %H:%M:%S"  # UTC
CLOCK_WORDS = ("current_date", "current_time", "current_timestamp")
_TIME_VALUES = {  # positions of the time values, by function
    "date": (0,), "time": (0,), "datetime": (0,), "julianday": (0,), "unixepoch": (0,), "strftime": (1,),
    "timediff": (0, 1),
}  # fmt: skip
DATE_FUNCTIONS = frozenset(_TIME_VALUES)
CLOCK_FUNCTIONS = DATE_FUNCTIONS | frozenset(CLOCK_WORDS)
MAX_CACHED_CALLS = 65_536  # dates repeat, and a call from SQLite into Python and back costs ten times a call within
_NOW = frozenset({"now", "subsec", "subsecond"})  # the last two are `now` with its fraction
_MAY_ASK = re.compile(
    r"(?:date|time|julianday|unixepoch|strftime|timediff)[\"`\]]?[\s\ufeff]*(?:\(|/\*|--)", re.IGNORECASE
)
_TOKEN = re.compile(
    r"(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))"
    r"|(?P<text>'(?:[^']|'')*(?:'|\Z))"
    r"|(?P<quoted>\"(?:[^\"]|\"\")*(?:\"|\Z)|`(?:[^`]|``)*(?:`|\Z)|\[[^\]]*(?:\]|\Z))"
    r"|(?P<word>[^\W\d][\w$]*)"
    r"|(?P<other>[^\s\ufeff])",
    re.DOTALL,
)


@dataclass(slots=True)
class _Bracket:
    """An open bracket: the function whose name stands before it, and what each argument so far is."""

    is_call: bool = False
    function: str = ""  # a date function's name, otherwise empty
    place: tuple[int, int] = (0, 0)  # where the name stands in the statement
    arguments: list[list[str]] = field(default_factory=lambda: [[]])  # an argument that is one text alone

    def asks(self) -> bool:
        given = [one for one in self.arguments if one]
        places = _TIME_VALUES[self.function]
        if len(given) < len(self.arguments) and len(self.arguments) > 1:
            return False  # an empty argument: no call that SQLite accepts
        if len(places) == 1 and len(given) == places[0]:
            return True
        return any(place < len(given) and len(given[place]) == 1 and _is_now(given[place][0]) for place in places)


def calls_for_the_time(sql: str) -> list[tuple[int, int, str]]:
    """Yield start, end and lower-case name of each date function in `sql` that is called for the present time.

    A text 'now' that a statement puts together, or that stands in a cell, is not seen: it gives the machine's time.
    """
    if not _MAY_ASK.search(sql):
        return []
    found: list[tuple[int, int, str]] = []
    brackets = [_Bracket()]
    name, place = "", (0, 0)  # of the identifier just before
    was_x = False  # whether a blob's x stands just before
    for token in _TOKEN.finditer(sql):
        kind, text = token.lastgroup, token.group()
        if kind == "comment":
            continue
        argument = brackets[-1].arguments[-1]
        if text == "(":
            function = name if name in DATE_FUNCTIONS else ""
            if function and argument:
                argument.pop()
            brackets.append(_Bracket(bool(name), function, place))
        elif text == ")" and len(brackets) > 1:
            closed = brackets.pop()
            if closed.function and closed.asks():
                found.append((*closed.place, closed.function))
            is_lone = not closed.is_call and len(closed.arguments) == 1 and len(closed.arguments[0]) == 1
            brackets[-1].arguments[-1].append(closed.arguments[0][0] if is_lone else "(")
        elif text == ",":
            brackets[-1].arguments.append([])
        elif kind == "text" and was_x:
            argument[-1] = f"'{_text_of_blob(text)}'"
        else:
            argument.append(text)
        was_x = kind == "word" and text in "xX"
        name, place = (_name(kind, text), token.span()) if kind in ("word", "quoted") else ("", place)
    return sorted(found)


def _name(kind: str | None, text: str) -> str:
    return (text[1:-1] if kind == "quoted" else text).lower()


def _text_of_blob(literal: str) -> str:
    try:
        return bytes.fromhex(literal[1:-1]).decode("ascii")
    except ValueError:
        return ""


def _is_now(text: object) -> bool:
    return isinstance(text, str) and text[:1] in ("'", '"') and text[1:-1].lower() in _NOW


class FixedClock:
    """Functions that use one instant in place of the machine's clock."""

    def __init__(self, instant: str) -> None:
        """Set the instant, which is in INSTANT_FORMAT."""
        self._prefix = f"floe_{secrets.token_hex(6)}_"  # no statement can guess it
        # SQLite's own date functions, called with the instant.
        self._plain = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        # In newer versions 'now' is UTC whatever follows; older ones take it for local time before a modifier 'utc'.
        (shift_days,) = self._plain.execute("SELECT julianday('now', 'utc') - julianday('now')").fetchone()
        self._instant = instant if abs(shift_days) > 0.01 else f"{instant}Z"
        known = {row[0] for row in self._plain.execute("SELECT name FROM pragma_function_list")}
        call = lru_cache(MAX_CACHED_CALLS, typed=True)(self._call)
        self._functions: dict[str, Callable[..., Any]] = {
            name: partial(call, name) for name in sorted(DATE_FUNCTIONS) if name in known
        }
        date, time = instant.split(" ")
        self._words = dict(zip(CLOCK_WORDS, (date, time, instant), strict=True))

    def install(self, connection: sqlite3.Connection, *, in_views: bool) -> None:
        """Add the functions that `rewritten` names to the connection; with `in_views` those of SQLite's names too.

        They are deterministic, as SQLite counts its own: indexes, checks and generated columns may hold them.
        """
        for name, function in self._functions.items():
            connection.create_function(self._prefix + name, -1, function, deterministic=True)
            if in_views:  # a view can't be rewritten
                connection.create_function(name, 2 if name == "timediff" else -1, function, deterministic=True)
        for name, value in self._words.items():
            connection.create_function(name, 0, lambda value=value: value, deterministic=True)

    def rewritten(self, sql: str) -> str:
        """Return the statement with the calls that ask for the time renamed."""
        parts, end = [], 0
        for start, stop, name in calls_for_the_time(sql):
            if name in self._functions:
                parts += [sql[end:start], self._prefix + name]
                end = stop
        return "".join([*parts, sql[end:]]) if parts else sql

    def shown(self, description: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
        """Return the driver's description of a rewritten statement's columns, named as they would be without."""
        return [(str(column[0]).replace(self._prefix, ""), *column[1:]) for column in description]

    def _call(self, name: str, *given: object) -> object:
        arguments = list(given)
        places = _TIME_VALUES[name]
        if len(arguments) == places[0] and len(places) == 1:
            arguments.append("now")
        for place in places:
            word = _word_of(arguments[place]) if place < len(arguments) else ""
            if word in _NOW:
                arguments[place : place + 1] = [self._instant] if word == "now" else [self._instant, word]
        marks = ", ".join("?" * len(arguments))
        return self._plain.execute(f"SELECT {name}({marks})", arguments).fetchone()[0]


def _word_of(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").lower()
    return value.lower() if isinstance(value, str) else ""
