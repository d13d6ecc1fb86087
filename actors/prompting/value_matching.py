"""Decides which values of a database a text names (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MAX_NGRAM_TOKENS = 8
MIN_COVERED_PERCENT = 85


def search_queries(tokens: Sequence[int]) -> list[tuple[int, ...]]:
    """Return all n-grams of up to 8 tokens, and the whole text, as distinct bags of words: BM25 knows no order.

    The method is the value search of Arctic-Text2SQL-R1 (arXiv 2505.20315, `bird_eval`), which is OmniSQL's
    (2503.02240).
    """
    starts, lengths = range(len(tokens)), range(1, MAX_NGRAM_TOKENS + 1)
    ngrams = (tokens[start : start + length] for length in lengths for start in starts if start + length <= len(tokens))
    return [bag for bag in dict.fromkeys(tuple(sorted(ngram)) for ngram in (*ngrams, tokens)) if bag]


def is_named(value: str, text: str) -> bool:
    """Return whether the longest common substring of both, without regard to case, is over 85 % of the value.

    The filter of the same search, computed differently: some piece of the value of the least such length has to be in
    the text.
    """
    wanted, given = value.strip().lower(), text.lower()
    num_chars = len(wanted) * MIN_COVERED_PERCENT // 100 + 1
    return any(wanted[start : start + num_chars] in given for start in range(len(wanted) - num_chars + 1))


def best_named(values: Iterable[str], text: str) -> list[str]:
    """Return the values that the text names: those named in full first, then the longer ones, then by their text."""
    given = text.lower()
    named = [value for value in values if is_named(value, text)]
    return sorted(named, key=lambda value: (value.strip().lower() not in given, -len(value.strip()), value))
