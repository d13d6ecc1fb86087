"""Ranks columns by how likely a question is about them, from its words (pure)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from floe.actors.databases.schemas import Column, ColumnName, TableSchema

# The score of each kind of evidence; chosen on the databases that Spider's preparation holds back as `tune`.
NAMED_IN_FULL = 3.0  # the name's words stand one after the other in the question
SHARED_WORDS = 2.0  # times the share of the name's words that match; rare words count most
DESCRIBED_WORDS = 1.0
WORD_WITHIN = 0.6  # a word of the question is a part of the name, such as `frpmcount`, or begins like one of its words
OF_ITS_TABLE = 1.0  # times the table's own score
NAMES_ITS_ROWS = 0.4  # what an answer usually shows of a table that the question is about
NAMING_WORDS = frozenset({"name", "title"})
MIN_PART_CHARS = 4

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+")
_ENDINGS = (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("ss", "ss"), ("s", ""))


def ranked_columns(
    tables: Sequence[TableSchema], question: str, first: Collection[ColumnName] = frozenset()
) -> list[ColumnName]:
    """Return all columns, `first` and then the likeliest ahead, equal ones in the schema's order."""
    asked = words_of(question)
    text = f" {' '.join(asked)} "
    weights = _weights(tables)
    scores: dict[ColumnName, float] = {}
    for table in tables:
        of_table = _name_score(words_of(table.name), asked, text, weights)
        for column in table.columns:
            words = words_of(column.name)
            own = _name_score(words, asked, text, weights)
            own += DESCRIBED_WORDS * _shared(words_of(_said(column)), asked, weights)
            own += NAMES_ITS_ROWS * bool(of_table and NAMING_WORDS.intersection(words))
            scores[ColumnName(table.name, column.name)] = own + OF_ITS_TABLE * of_table
    return sorted(scores, key=lambda name: (name not in first, -scores[name]))


def words_of(text: str) -> list[str]:
    """Return the words in lower case and in the singular, also those of `camelCase` and `snake_case`."""
    return [_singular(word.lower()) for word in _WORDS.findall(text)]


def _singular(word: str) -> str:
    for ending, other in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return word[: -len(ending)] + other
    return word


def _said(column: Column) -> str:
    return f"{column.description} {column.value_description}"


def _weights(tables: Sequence[TableSchema]) -> Mapping[str, float]:
    """Return each word's weight: the fewer columns and tables have it in their names, the more it tells."""
    names = [name for table in tables for name in (table.name, *(column.name for column in table.columns))]
    counts = Counter(word for name in names for word in set(words_of(name)))
    return {word: math.log(1 + len(names) / count) for word, count in counts.items()}


def _name_score(words: Sequence[str], asked: Sequence[str], text: str, weights: Mapping[str, float]) -> float:
    if not words:
        return 0.0
    score = SHARED_WORDS * _shared(words, asked, weights)
    if f" {' '.join(words)} " in text:
        score += NAMED_IN_FULL
    compact = "".join(words)
    parts = (one for one in set(asked) if len(one) >= MIN_PART_CHARS)
    is_within = any(one in compact or _begins_alike(one, words) for one in parts)
    return score + WORD_WITHIN * is_within


def _shared(words: Iterable[str], asked: Sequence[str], weights: Mapping[str, float]) -> float:
    """Return the share of the words, by weight, that the question has."""
    known = set(words)
    whole = sum(weights.get(word, 1.0) for word in known)
    return sum(weights.get(word, 1.0) for word in known.intersection(asked)) / whole if whole else 0.0


def _begins_alike(word: str, others: Sequence[str]) -> bool:
    return any(len(other) >= MIN_PART_CHARS and (word.startswith(other) or other.startswith(word)) for other in others)
