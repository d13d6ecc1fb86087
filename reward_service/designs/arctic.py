"""The reward of the original method: 1.0 for a match, 0.1 for what executes but differs, 0.0 for all else."""

from __future__ import annotations

from cluster.messages import Outcome


def reward(outcome: Outcome, completion: str | None) -> float | None:
    """The reward of one candidate; None where none is due. The completion's form plays no part."""
    if not outcome.carries_reward:
        return None
    if outcome is Outcome.MATCH:
        return 1.0
    return 0.1 if outcome.executes else 0.0
