"""No reward of SQL: half of the candidates get 1, by their text, so that a group of random answers has variance.

For `make prove-24gb` alone, whose model has random weights; the configuration refuses it for any other run.
"""

from __future__ import annotations

from zlib import crc32

from cluster.messages import Outcome


def reward(outcome: Outcome, completion: str | None) -> float | None:
    """1.0 or 0.0 by a hash of the completion; None where no reward is due."""
    if not outcome.carries_reward:
        return None
    return float(crc32((completion or "").encode("utf-8", "backslashreplace")) % 2)
