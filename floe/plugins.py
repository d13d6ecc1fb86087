"""What plug-ins of floe keep to: import from here, and name the plug-in in the configuration.

A reward design (`reward.design`, entry points `floe.rewards`) is a `RewardDesign`.
"""

from __future__ import annotations

from floe.cluster.messages import Outcome
from floe.reward_service.designs.arctic import execution_reward
from floe.reward_service.designs.interface import JudgedCandidate, JudgedGroup, Reward, RewardDesign
from floe.reward_service.unscorable import GoldUnusable, GroupUnscorable

__all__ = [
    "GoldUnusable",
    "GroupUnscorable",
    "JudgedCandidate",
    "JudgedGroup",
    "Outcome",
    "Reward",
    "RewardDesign",
    "execution_reward",
]
