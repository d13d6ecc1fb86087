"""Advantages of rewards with several terms, each normalised on its own (GDPO; pure, float64).

Group reward-Decoupled Normalization Policy Optimization, arXiv 2601.05242; with r_k the term k of a candidate:

    A_k = (r_k - mean of the group) / (std of the group)      each term within its group
    A   = sum over k of w_k * A_k                             weights after normalising
    A'  = (A - mean of the batch) / (std of the batch)

Normalising removes a constant factor, so a term that comes multiplied by its weight tells nothing of it: weights come
separately, from the design (`Reward.weights`). For floe's own designs a weight is the width of the term's range.

Deviations: std is that of N values, not N - 1, as elsewhere in floe. A term that is constant within a group gives
exactly 0 instead of a quotient with a small number added below. The mean of the batch is 0 by construction and is not
taken off, so that a group without a difference keeps exactly 0. Rewards that are paid on condition of another (the
paper's way to rank terms) are the design's matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from floe.cluster.messages import ScoredGroup
from floe.configs.errors import UserError

RELATIVE_FLOOR = 1e-9  # a std below this share of the largest value is rounding
# The penalty of `algorithm.overlong`: punish, a term from -1 to 0. No name of a design's own term has a dot.
OVERLONG = "algorithm.overlong"
OVERLONG_WEIGHT = 1.0


def term_advantages(groups: Sequence[ScoredGroup], rewards: Sequence[Sequence[float | None]]) -> list[np.ndarray]:
    """Return the advantages of each group's candidates; NaN where the reward is None (masked from everything).

    `rewards` are those after `algorithm.overlong`. Raises UserError for a rewarded candidate whose terms or weights are
    missing.
    """
    added = [_added(group, shaped) for group, shaped in zip(groups, rewards, strict=True)]
    usable = np.concatenate([one[~np.isnan(one)] for one in added]) if added else np.zeros(0)
    std = float(np.sqrt(np.mean(usable**2))) if usable.size else 0.0
    return [one / std if std > 0 else one for one in added]


def any_term_varies(group: ScoredGroup, rewards: Sequence[float | None]) -> bool:
    """Return whether a weighted term differs between candidates, though the totals may be equal. Raises UserError."""
    values, weights = _terms(group, rewards)
    return any(weights[name] > 0 and bool(np.nansum(np.abs(_normalised(one)))) for name, one in values.items())


def _added(group: ScoredGroup, rewards: Sequence[float | None]) -> np.ndarray:
    values, weights = _terms(group, rewards)
    masked = np.array([np.nan if reward is None else 0.0 for reward in rewards])
    return sum((weights[name] * _normalised(one) for name, one in values.items()), start=masked)


def _normalised(values: np.ndarray) -> np.ndarray:
    usable = values[~np.isnan(values)]
    zero = np.where(np.isnan(values), np.nan, 0.0)
    if usable.size == 0 or usable.max() == usable.min():
        return zero
    std = usable.std()
    if std <= RELATIVE_FLOOR * np.abs(usable).max():
        return zero
    normalised: np.ndarray = (values - usable.mean()) / std
    return normalised


def _terms(group: ScoredGroup, rewards: Sequence[float | None]) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return each term's values, NaN where the reward is None and 0 where a candidate lacks it, and the weights."""
    weights: dict[str, float] = {OVERLONG: OVERLONG_WEIGHT}
    rows: list[Mapping[str, float] | None] = []
    for score, reward in zip(group.scores, rewards, strict=True):
        if reward is None or score.reward is None:
            rows.append(None)
            continue
        terms = score.terms or {}
        given = score.term_weights or {}
        if not terms or not terms.keys() <= given.keys():
            raise UserError(
                f"The reward of question {group.rollout.question.question_id} has no terms with a weight for each, "
                "which algorithm.advantage_terms=gdpo needs: let the reward design give both, or set it to sum."
            )
        weights |= given
        rows.append({**terms, OVERLONG: reward - score.reward})
    names = dict.fromkeys(name for row in rows if row for name in row)
    values = {name: np.array([np.nan if row is None else row.get(name, 0.0) for row in rows]) for name in names}
    return values, weights
