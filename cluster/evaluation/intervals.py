"""Bootstrap intervals over questions and the pass@k estimator (pure numpy)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
MAX_DRAWS_AT_ONCE = 4_000_000  # bounds the memory of a bootstrap to about 64 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean over questions with its 95 % interval."""

    mean: float
    low: float
    high: float
    num_questions: int


def mean_interval(values: np.ndarray, num_resamples: int, seed: int) -> Interval:
    """Return the mean of one value per question with its percentile-bootstrap interval (Efron and Tibshirani 1993, ch.
    13).

    Questions are resampled, not candidates, since candidates of one question are not independent. Raises ValueError for
    no values, a value that is not finite, or no resamples.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"a bootstrap needs one finite value per question, got {values.size} in shape {values.shape}")
    if num_resamples < 1:
        raise ValueError(f"a bootstrap needs at least 1 resample, got {num_resamples}")
    generator = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    num_at_once = max(1, MAX_DRAWS_AT_ONCE // values.size)
    for start in range(0, num_resamples, num_at_once):
        num_rows = min(num_at_once, num_resamples - start)
        drawn = generator.integers(values.size, size=(num_rows, values.size))
        means[start : start + num_rows] = values[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(mean=float(values.mean()), low=float(low), high=float(high), num_questions=int(values.size))


def paired_difference(a: np.ndarray, b: np.ndarray, num_resamples: int, seed: int) -> Interval:
    """Return the mean of `a - b`, question by question, with its interval: the questions' difficulty cancels out.

    Raises ValueError when the two do not hold one value for each of the same questions.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a paired difference needs the same questions twice, got shapes {a.shape} and {b.shape}")
    return mean_interval(a - b, num_resamples, seed)


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Return the unbiased chance that one of `k` samples is correct (Chen et al. 2021, arXiv 2107.03374, 2.1).

    `1 - C(n - c, k) / C(n, k)` as the product it equals, which does not overflow. Raises ValueError unless `0 <=
    num_correct <= num_samples` and `1 <= k <= num_samples`.
    """
    if not 0 <= num_correct <= num_samples or not 1 <= k <= num_samples:
        raise ValueError(f"pass@{k} is not defined for {num_correct} correct of {num_samples} samples")
    if num_samples - num_correct < k:
        return 1.0
    return 1.0 - float(np.prod(1.0 - k / np.arange(num_samples - num_correct + 1, num_samples + 1)))
