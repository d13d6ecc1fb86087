"""Similarities of two queries without training, with which the network is compared (pure)."""

from __future__ import annotations

from collections import Counter

import sqlglot
from sqlglot import diff
from sqlglot.diff import Keep

from floe.cluster.databases.dialect import DIALECT
from floe.reward_service.graph.plan import parsed

MAX_N = 4


def ngram_similarity(a: str, b: str) -> float:
    """Return the Jaccard index of the multisets of token n-grams, n from 1 to 4, in lower case."""
    counts = [_ngrams(sql) for sql in (a, b)]
    union = (counts[0] | counts[1]).total()
    return (counts[0] & counts[1]).total() / union if union else 1.0


def edit_similarity(a: str, b: str) -> float:
    """Return 1 less the share of both trees' nodes that an edit script (sqlglot's Change Distiller) touches."""
    source, target = parsed(a), parsed(b)
    num_nodes = sum(1 for tree in (source, target) for _ in tree.walk())
    num_edits = sum(not isinstance(edit, Keep) for edit in diff(source, target, dialect=DIALECT))
    return 1.0 - num_edits / num_nodes


def _ngrams(sql: str) -> Counter[tuple[str, ...]]:
    tokens = [token.text.lower() for token in sqlglot.tokenize(sql, dialect=DIALECT)]
    return Counter(
        tuple(tokens[start : start + n]) for n in range(1, MAX_N + 1) for start in range(len(tokens) - n + 1)
    )
