"""One instant for SQLite's clock: the date functions of a guarded connection, for statements that ask for the time.

SQLite reads the machine's clock for 'now', for CURRENT_DATE and its kin, and for a date function without a time value.
Such a statement runs with functions of the same names that put the instant there and leave the rest to SQLite. All
others keep SQLite's own functions, which are ten times faster over a column of dates.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from functools import partial

from reward_service.statement import without_comments

INSTANT_FORMAT = "%Y-%m-%d %H:%M:%S"  # UTC; SQLite reads it as a time value
CLOCK_WORDS = ("current_date", "current_time", "current_timestamp")
_TIME_VALUES = {  # by function: the positions of its time values
    "date": (0,), "time": (0,), "datetime": (0,), "julianday": (0,), "unixepoch": (0,), "strftime": (1,),
    "timediff": (0, 1),
}  # fmt: skip
DATE_FUNCTIONS = frozenset(_TIME_VALUES)
CLOCK_FUNCTIONS = DATE_FUNCTIONS | frozenset(CLOCK_WORDS)
_NOW = frozenset({"now", "subsec", "subsecond"})  # the last two are `now` with its fraction
_MAY_ASK = re.compile(
    r"['\"`\[]now|subsec|current_(?:date|time)|(?:date|time|julianday|unixepoch|strftime|timediff)[\"`\]]?\s*(?:\(|/|--)",
    re.IGNORECASE,
)
_SURELY_ASKS = re.compile(r"['\"`\[]now['\"`\]]|subsec|current_(?:date|time)", re.IGNORECASE)
_DATE_CALL = re.compile(rf"\b(?:{'|'.join(DATE_FUNCTIONS)})[\"`\]]?\s*\(\s*(\)?)", re.IGNORECASE)
_STRFTIME_PART = re.compile(
    r"(?P<quoted>'[^']*(?:'|$)|\"[^\"]*(?:\"|$)|`[^`]*(?:`|$))|(?P<strftime>\bstrftime\s*)?(?P<bracket>\()|\)|,",
    re.IGNORECASE,
)


def asks_for_the_time(sql: str) -> bool:
    """Return whether the statement may read the clock; some that don't are counted in, which costs them speed alone.

    A text 'now' that a statement puts together, or that stands in a cell, is not seen: it is the machine's time.
    """
    if not _MAY_ASK.search(sql):
        return False
    if _SURELY_ASKS.search(sql):
        return True
    bare = without_comments(sql)
    return any(call.group(1) for call in _DATE_CALL.finditer(bare)) or _has_strftime_of_one_argument(bare)


class FixedClock:
    """Puts one instant in the place of the machine's clock, on a connection and for good."""

    def __init__(self, instant: str) -> None:
        """`instant` is of INSTANT_FORMAT."""
        self._instant = instant
        # SQLite's own date functions, called with the instant.
        self._plain = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        known = {row[0] for row in self._plain.execute("SELECT name FROM pragma_function_list")}
        self._functions: list[tuple[str, int, Callable]] = [
            (name, 2 if name == "timediff" else -1, partial(self._call, name))
            for name in sorted(DATE_FUNCTIONS)
            if name in known
        ]
        date, time = instant.split(" ")
        for name, value in zip(CLOCK_WORDS, (date, time, instant), strict=True):
            self._functions.append((name, 0, lambda value=value: value))

    def install(self, connection: sqlite3.Connection) -> None:
        for name, num_arguments, function in self._functions:
            # Deterministic, as SQLite's own are to it: indexes, checks and generated columns may hold them.
            connection.create_function(name, num_arguments, function, deterministic=True)

    def _call(self, name: str, *given: object) -> object:
        arguments = list(given)
        places = _TIME_VALUES[name]
        if len(arguments) == places[0] and len(places) == 1:
            arguments.append("now")
        for place in places:
            if place < len(arguments) and _is_now(arguments[place]):
                word = str(arguments[place]).lower()
                rest = arguments[place + 1 :]
                if word != "now":
                    rest.insert(0, word)
                if rest and str(rest[0]).lower() == "utc":
                    del rest[0]  # SQLite knows that 'now' is UTC already; of a text it would take it for local time
                arguments[place:] = [self._instant, *rest]
        marks = ", ".join("?" * len(arguments))
        return self._plain.execute(f"SELECT {name}({marks})", arguments).fetchone()[0]


def _is_now(value: object) -> bool:
    return isinstance(value, str) and value.lower() in _NOW


def _has_strftime_of_one_argument(sql: str) -> bool:
    """Whether there is a call that gives a format alone; one pass, whatever a model writes."""
    is_lone_format: list[bool] = []  # by open bracket: of strftime, and without a comma up to now
    for part in _STRFTIME_PART.finditer(sql):
        if part.group("quoted"):
            continue
        if part.group("bracket"):
            is_lone_format.append(bool(part.group("strftime")))
        elif part.group() == ",":
            if is_lone_format:
                is_lone_format[-1] = False
        elif is_lone_format and is_lone_format.pop():
            return True
    return any(is_lone_format)
