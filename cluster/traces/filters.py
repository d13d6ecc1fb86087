"""Says why a right answer is not worth learning from (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from statistics import median

from floe.reward_service.sql_text.statement import OPAQUE

MAX_MEDIANS = 4  # a thought of more times the median of the right answers' words is absurdly long
MIN_LONG_WORDS = 60  # below, no thought is
WINDOW, MIN_WINDOWS, MIN_DISTINCT_SHARE = 3, 12, 0.5  # a text repeats itself where half its word triples are repeats
_WORD = re.compile(r"\w+")
_FROM = re.compile(r"\bfrom\b", re.IGNORECASE)
_NAMES = re.compile(r"[A-Za-z_]\w*|\*")
_NO_NAMES = frozenset({"all", "as", "case", "cast", "distinct", "else", "end", "false", "null", "then", "true", "when"})


class Dropped(StrEnum):
    """Why a sampled answer is not kept."""

    NO_VERDICT = "no verdict"  # nobody's fault: it counts as neither right nor wrong
    WRONG = "wrong"
    TRUNCATED = "cut off at the limit"
    FORM = "not in the style's form"
    NO_THOUGHT = "no thought"
    REPEATS = "thought repeats itself"
    LONG = "absurdly long thought"
    CONSTANT = "constant SQL"
    EMPTY = "empty result"
    DUPLICATE = "duplicate"
    BALANCE = "left out by the balance"


def fault_of_thought(thought: str, longest_words: float) -> Dropped | None:
    """Return what is wrong with the thought; `longest_words` is the limit of `longest_thought`."""
    words = words_of(thought)
    if not words:
        return Dropped.NO_THOUGHT
    if repeats_itself(words):
        return Dropped.REPEATS
    return Dropped.LONG if len(words) > longest_words else None


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def repeats_itself(words: Sequence[str]) -> bool:
    """Return whether fewer than half of the text's triples of words are different; a short text does not repeat."""
    windows = [tuple(words[start : start + WINDOW]) for start in range(len(words) - WINDOW + 1)]
    return len(windows) >= MIN_WINDOWS and len(set(windows)) < MIN_DISTINCT_SHARE * len(windows)


def longest_thought(num_words: Sequence[int]) -> float:
    """Return the most words of a thought, from those of all right answers in the style's form."""
    return max(MIN_LONG_WORDS, MAX_MEDIANS * median(num_words)) if num_words else MIN_LONG_WORDS


def is_constant(sql: str) -> bool:
    """Return whether the query reads no table, or selects nothing but literals: right by a guess, not by reading.

    Judged by its words without texts and comments. A name that is quoted counts for a name.
    """
    plain = OPAQUE.sub(lambda found: " quoted_name " if found.group()[0] in '"`[' else " ", sql)
    if not _FROM.search(plain):
        return True
    is_in_list, before = False, ""
    for word in (found.lower() for found in _NAMES.findall(plain)):
        if word == "select":
            is_in_list = True
        elif word == "from":
            is_in_list = False
        elif is_in_list and word not in _NO_NAMES and before != "as":
            return False
        before = word
    return True
