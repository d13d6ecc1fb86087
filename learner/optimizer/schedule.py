"""The learning rate of a step (pure)."""

from __future__ import annotations

import math


def learning_rate(
    step: int, num_steps: int, peak: float, warmup_share: float, schedule: str, min_share: float
) -> float:
    """Return the rate of update `step` (from 0): linear warm-up, then cosine to `min_share * peak`, or constant."""
    num_warmup = math.ceil(warmup_share * num_steps)
    if step < num_warmup:
        return peak * (step + 1) / num_warmup
    if schedule == "constant":
        return peak
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return peak * (min_share + (1 - min_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
