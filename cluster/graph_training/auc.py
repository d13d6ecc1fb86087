"""Area under the ROC curve, and its bootstrap interval over clusters of pairs (pure numpy)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from floe.cluster.evaluation.intervals import CONFIDENCE


def weighted_auc(scores: np.ndarray, is_equal: np.ndarray, weights: np.ndarray) -> float:
    """Return the chance that an equivalent pair scores above a different one, ties half; NaN where one kind is missing.

    Each pair counts `weights` times, as a resample draws it.
    """
    ranks = np.unique(scores, return_inverse=True)[1]
    equal = np.bincount(ranks, weights * is_equal)
    different = np.bincount(ranks, weights * ~is_equal)
    below = np.cumsum(different) - different
    num_pairs = equal.sum() * different.sum()
    return float((equal * (below + different / 2)).sum() / num_pairs) if num_pairs else float("nan")


def resample_weights(clusters: Sequence[str], num_resamples: int, seed: int) -> np.ndarray:
    """Return [num_resamples, pairs]: how often each pair is drawn when whole clusters are drawn with replacement."""
    members = np.unique(np.array(clusters), return_inverse=True)[1]
    num_clusters = int(members.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(num_clusters, [1 / num_clusters] * num_clusters, num_resamples)
    return drawn[:, members]


def aucs(scores: np.ndarray, is_equal: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return `weighted_auc` of each resample."""
    return np.array([weighted_auc(scores, is_equal, row) for row in weights])


def bounds(values: np.ndarray) -> tuple[float, float]:
    """Return the middle 95 % of the resamples that have a value."""
    low, high = np.nanquantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
