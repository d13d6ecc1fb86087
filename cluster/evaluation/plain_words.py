"""What figures over few questions can tell, in plain words (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from floe.cluster.evaluation.intervals import Interval

MIN_QUESTIONS = 30  # below this a figure's interval is wider than most gains
ALL_ZERO = "Every reward was 0: nothing could be learned; try a larger model or a longer warm start."


def half_width_points(num_questions: int) -> int:
    """Return how far the 95 % interval of a share reaches each way at most, in points: that of a share of one half."""
    return math.ceil(100 * 1.96 * math.sqrt(0.25 / num_questions))


def few_questions(num_questions: int) -> str:
    """Return a line on so few questions; empty for enough of them."""
    if num_questions >= MIN_QUESTIONS:
        return ""
    shown = f"{num_questions} question{'' if num_questions == 1 else 's'}"
    return f"{shown}: too few to tell a gain from chance; ask {MIN_QUESTIONS} or more, better 100."


def no_change(differences: Sequence[Interval | None]) -> str:
    """Return a line where the interval of each difference holds 0; empty where one does not, or where there is none."""
    found = [one for one in differences if one is not None]
    if not found or not all(one.low <= 0 <= one.high for one in found):
        return ""
    return "No change can be told: 0 lies within the interval of every difference."


def all_zero(reward_means: Sequence[float | None], zero_variance_shares: Sequence[float | None]) -> str:
    """Return a line where every reward of the steps was 0; empty otherwise, and without a step.

    The two run parallel: a step's mean reward, and the share of its groups whose rewards are all equal.
    """
    if reward_means and all(one == 0 for one in reward_means) and all(one == 1 for one in zero_variance_shares):
        return ALL_ZERO
    return ""
