"""The macro average of several data sets with its bootstrap interval, and what an interval can resolve (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from floe.cluster.evaluation.intervals import CONFIDENCE, MAX_DRAWS_AT_ONCE, Interval

TAIL = (1 - CONFIDENCE) / 2


def macro_interval(values: Sequence[np.ndarray], num_resamples: int, seed: int) -> Interval:
    """Return the mean of the data sets' means, `1/D * sum_d mean(x_d)`, with its stratified bootstrap interval.

    Every resample draws `n_d` questions with replacement within each data set d, and averages the D means with the
    same weights; the interval has the percentiles of these averages (Davison and Hinkley 1997, Bootstrap Methods and
    their Application, 3.2; Efron and Tibshirani 1993, ch. 13). The data sets are fixed, not
    drawn. `num_questions` counts the questions of all. Raises ValueError without a value in each set.
    """
    sets = [np.asarray(one, dtype=np.float64) for one in values]
    if not sets or any(one.ndim != 1 or one.size == 0 or not np.isfinite(one).all() for one in sets):
        raise ValueError("a macro average needs at least one data set, and a finite value per question in each")
    generator = np.random.default_rng(seed)
    means = np.zeros(num_resamples)
    for one in sets:
        num_at_once = max(1, MAX_DRAWS_AT_ONCE // one.size)
        for start in range(0, num_resamples, num_at_once):
            num_rows = min(num_at_once, num_resamples - start)
            drawn = generator.integers(one.size, size=(num_rows, one.size))
            means[start : start + num_rows] += one[drawn].mean(axis=1) / len(sets)
    low, high = np.quantile(means, [TAIL, 1 - TAIL])
    mean = float(np.mean([one.mean() for one in sets]))
    return Interval(mean=mean, low=float(low), high=float(high), num_questions=sum(one.size for one in sets))


def smallest_resolved(interval: Interval, nums_questions: Sequence[int]) -> float:
    """Return the smallest paired difference whose interval would not hold 0, by these questions and their spread.

    It is half the interval's width, and never less than the smallest gain without a loss that a bootstrap of as many
    questions tells from 0: where few answers or none changed, the width alone would promise too much. `nums_questions`
    are those of each data set, of which a gain needs one alone.
    """
    fewest = min(fewest_changes(one) / one for one in nums_questions) / len(nums_questions)
    return max((interval.high - interval.low) / 2, fewest)


def fewest_changes(num_questions: int) -> int:
    """Return the fewest gains without a loss whose percentile interval lies above 0.

    The interval's lower end is 0 as long as at least 2.5 % of the resamples draw none of the k changed questions of n:
    `(1 - k/n)^n >= 0.025`. For many questions that needs 4.
    """
    changes = range(1, num_questions + 1)
    return next(k for k in changes if (1 - k / num_questions) ** num_questions < TAIL)
