"""The reward designs by name; a new one is a file of this folder and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cluster.messages import Outcome
from reward_service.designs import arctic, proof

RewardDesign = Callable[[Outcome, str | None], float | None]

DESIGNS: Mapping[str, RewardDesign] = {"arctic": arctic.reward, "proof": proof.reward}


def reward_design(name: str) -> RewardDesign:
    """The design called `name`: outcome and completion text (None for bare SQL) to a reward or None.

    Raises ValueError when there is none of that name.
    """
    try:
        return DESIGNS[name]
    except KeyError:
        raise ValueError(f"reward.design is {name!r}, which does not exist: use one of {sorted(DESIGNS)}") from None
