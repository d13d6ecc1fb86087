"""Picks one of several sampled answers by a vote (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from floe.cluster.messages import ResultProfile

Ballots = Sequence[ResultProfile | None]  # one per sample, in their order; None for one without a result


def exact_vote(ballots: Ballots) -> int | None:
    """Return the index of the first sample with the most frequent set of rows; None when no sample has a result.

    Column order counts, row order and repeated rows don't, as in BIRD's comparison. Of equally frequent sets that of
    the earliest sample wins.
    """
    digests = [None if ballot is None else ballot.digest for ballot in ballots]
    counts = Counter(digest for digest in digests if digest is not None)
    return digests.index(counts.most_common(1)[0][0]) if counts else None


def soft_vote(ballots: Ballots) -> int | None:
    """Return the index of the first sample whose result is most similar to all; None when no sample has a result.

    Arctic-Text2SQL-R1's vote (arXiv 2505.20315; snowflakedb/ArcticTraining, bird_eval/self_consistency.py): the largest
    sum of `similarity` to every sample, itself included.
    """
    sums = [
        0.0 if ballot is None else sum(1.0 if i == j else similarity(ballot, other) for j, other in enumerate(ballots))
        for i, ballot in enumerate(ballots)
    ]
    return sums.index(max(sums)) if any(ballot is not None for ballot in ballots) else None


def similarity(a: ResultProfile, b: ResultProfile | None) -> float:
    """Return the similarity of two results: over the columns of either and their values, sum of min over sum of max
    counts.

    Columns are matched by name. A failed sample or an empty result is like no other. A result with too many values to
    have counts is 1 to the same set of rows and 0 to any other.
    """
    if b is None or not a.num_rows or not b.num_rows:
        return 0.0
    if a.column_counts is None or b.column_counts is None:
        return float(a.digest == b.digest)
    shared = most = 0
    for name in a.column_counts.keys() | b.column_counts.keys():
        ours, theirs = Counter(a.column_counts.get(name)), Counter(b.column_counts.get(name))
        shared += (ours & theirs).total()
        most += (ours | theirs).total()
    return shared / most
