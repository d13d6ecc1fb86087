"""Finds values that a search by words misses: signs, stop words, other scripts, endings and forms of dates (pure)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import date
from itertools import chain

MIN_STEM_CHARS = 4
MIN_STEM_SHARE = 0.6  # share of the longer of two words with which both have to begin
MAX_FEW_VALUES = 60  # distinct texts of a column in which another ending is looked for

_TOKEN = re.compile(r"\w+|[^\w\s]")
_OPENING, _CLOSING = "'\"`\u2018\u201c\u00ab", "'\"`\u2019\u201d\u00bb"
_QUOTED = re.compile(rf"(?<!\w)[{_OPENING}](?P<text>[^{_OPENING}{_CLOSING}\n]{{1,100}})[{_CLOSING}](?!\w)")
_FIRST_WORD = re.compile(r"(?:^|[.?!:\n]\s*)(\w+)")
_WORD = re.compile(r"[^\W\d_]{2,}")
_ISO = re.compile(r"\b(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})\b")
_NUMERIC = re.compile(r"\b(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})\b")
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_MONTH = "(" + "|".join(f"{name[:3]}(?:{name[3:]})?" for name in _MONTHS) + r")\.?"
_MONTH_FIRST = re.compile(rf"\b{_MONTH}\s+(\d{{1,2}})(?:st|nd|rd|th)?,?\s+(\d{{4}})\b", re.IGNORECASE)
_DAY_FIRST = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?\s+(\d{{4}})\b", re.IGNORECASE)


def is_odd(value: str, stop_words: frozenset[str]) -> bool:
    """Return whether no search by words finds it: one character, only stop words, or a script without spaces."""
    words = re.findall(r"\w+", value.lower())
    return len(value.strip()) == 1 or stop_words.issuperset(words) or has_no_spaces(value)


def has_no_spaces(text: str) -> bool:
    """Return whether the text is in a script that does not divide words, such as Chinese, Japanese or Thai."""
    return not text.isascii() and any(
        unicodedata.name(one, "").startswith(_UNDIVIDED) for one in text if ord(one) > LAST_DIVIDED
    )


LAST_DIVIDED = 0x0E00  # scripts before Thai all use spaces
_UNDIVIDED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "HANGUL")


class OddValues:
    """Looks up the values that a text names, where possible without comparing each value with each text."""

    def __init__(self, values: Iterable[str]) -> None:
        self._by_word: dict[str, list[str]] = {}
        self._by_folded: dict[str, list[str]] = {}
        self._undivided: list[str] = []
        self._several_words: list[str] = []
        for value in values:
            plain = value.strip()
            self._by_folded.setdefault(plain.casefold(), []).append(value)
            if has_no_spaces(plain):
                self._undivided.append(value)
            elif " " in plain:
                self._several_words.append(value)
            else:
                self._by_word.setdefault(plain, []).append(value)

    def named(self, text: str) -> list[str]:
        """Return values in quotes, those that stand as a sign or word in the same letters, and those in a script."""
        quoted = {found["text"].strip().casefold() for found in _QUOTED.finditer(text)}
        found = [value for one in sorted(quoted) for value in self._by_folded.get(one, ())]
        first_words = set(_FIRST_WORD.findall(text))
        words = dict.fromkeys(word for word in _TOKEN.findall(text) if _may_be_value(word, first_words))
        found += [value for word in words for value in self._by_word.get(word, ())]
        found += [value for value in self._several_words if f" {value.strip()} " in f" {text} "]
        if has_no_spaces(text):
            found += [value for value in self._undivided if len(value.strip()) > 1 and value.strip() in text]
        return list(dict.fromkeys(found))


def _may_be_value(word: str, first_words: set[str]) -> bool:
    """Return whether it may be a value: words in small letters or first in a sentence mostly aren't: `it`, `no`."""
    return not word.islower() and word not in ("I", "A") and word not in first_words


class WordEndings:
    """Values of one word, found by how they begin."""

    def __init__(self, values: Iterable[str]) -> None:
        self._by_start: dict[str, list[str]] = {}
        for value in values:
            plain = value.strip().casefold()
            if plain.isalpha() and len(plain) >= MIN_STEM_CHARS:
                self._by_start.setdefault(plain[:MIN_STEM_CHARS], []).append(value)

    def alike(self, text: str) -> list[str]:
        """Return the values that share their beginning with a word of the text: Operational for operating."""
        words = dict.fromkeys(word.casefold() for word in _WORD.findall(text) if len(word) >= MIN_STEM_CHARS)
        alike = (
            value
            for word in words
            for value in self._by_start.get(word[:MIN_STEM_CHARS], ())
            if _is_alike(value.strip().casefold(), word)
        )
        return list(dict.fromkeys(alike))


def _is_alike(value: str, word: str) -> bool:
    pairs = enumerate(zip(value, word, strict=False))
    num_shared = next((number for number, (a, b) in pairs if a != b), min(len(value), len(word)))
    return num_shared >= MIN_STEM_SHARE * max(len(value), len(word))


def dates_otherwise(text: str) -> list[str]:
    """Return each date of the text in the other forms that databases use."""
    return list(dict.fromkeys(form for day in _dates(text) for form in _forms(day)))


def _dates(text: str) -> Iterator[date]:
    found = chain(
        ((m[1], m[2], m[3]) for m in _ISO.finditer(text)),
        ((m[3], m[1], m[2]) for m in _NUMERIC.finditer(text)),
        ((m[3], m[2], m[1]) for m in _NUMERIC.finditer(text)),
        ((m[3], str(_month(m[1])), m[2]) for m in _MONTH_FIRST.finditer(text)),
        ((m[3], str(_month(m[2])), m[1]) for m in _DAY_FIRST.finditer(text)),
    )
    for year, month, day in found:
        try:
            yield date(int(year), int(month), int(day))
        except ValueError:
            continue


def _month(name: str) -> int:
    return 1 + next(number for number, one in enumerate(_MONTHS) if one.startswith(name[:3].lower()))


def _forms(day: date) -> list[str]:
    year, month, number = day.year, day.month, day.day
    name = _MONTHS[month - 1].capitalize()
    return [
        f"{year}-{month:02}-{number:02}", f"{year}/{month:02}/{number:02}", f"{year}/{month}/{number}",
        f"{month}/{number}/{year}", f"{month:02}/{number:02}/{year}", f"{number}/{month}/{year}",
        f"{number:02}/{month:02}/{year}", f"{number}.{month}.{year}", f"{number:02}.{month:02}.{year}",
        f"{name} {number}, {year}", f"{number} {name} {year}", f"{name[:3]} {number}, {year}",
    ]  # fmt: skip
