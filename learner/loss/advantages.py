"""Group-relative advantages (pure, float64)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Scale = Literal["none", "std", "batch"]
STD_FLOOR = 1e-6


def group_advantages(rewards: Sequence[Sequence[float | None]], scale: Scale) -> list[np.ndarray]:
    """Return the advantages of each group's candidates; NaN where the reward is None (masked from mean, std and loss).

    `none`: r - mean (Dr. GRPO, arXiv 2503.20783, section 3.2). `std`: (r - mean) / std of the group (GRPO, arXiv
    2402.03300, section 4.1.2; std with N, so that N = 1 is defined). `batch`: (r - mean) / std of all centred rewards
    of the batch. A group whose rewards are all equal gets exactly 0: max and min are compared, because the
    floating-point mean of equal numbers can differ from them.
    """
    centred = [_centred(np.array([np.nan if r is None else r for r in group], dtype=np.float64)) for group in rewards]
    if scale == "none":
        return centred
    if scale == "std":
        return [_divided(group, _std(group)) for group in centred]
    usable = np.concatenate([group[~np.isnan(group)] for group in centred]) if centred else np.zeros(0)
    return [_divided(group, _std(usable)) for group in centred]


def is_zero_variance(rewards: Sequence[float | None]) -> bool:
    """Return whether no two usable rewards differ, so that the group carries no gradient."""
    usable = [r for r in rewards if r is not None]
    return not usable or max(usable) == min(usable)


def _centred(rewards: np.ndarray) -> np.ndarray:
    usable = rewards[~np.isnan(rewards)]
    if usable.size == 0 or usable.max() == usable.min():
        return np.where(np.isnan(rewards), np.nan, 0.0)
    centred: np.ndarray = rewards - usable.mean()
    return centred


def _std(centred: np.ndarray) -> float:
    usable = centred[~np.isnan(centred)]
    return float(np.sqrt(np.mean(usable**2))) if usable.size else 0.0


def _divided(centred: np.ndarray, std: float) -> np.ndarray:
    return centred / std if std > STD_FLOOR else np.where(np.isnan(centred), np.nan, 0.0)
