"""The guard's detectors by name, with the limits of `health`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from floe.cluster.health.history import History
from floe.cluster.health.policy_detectors import (
    AccuracyFalling,
    EntropyFalling,
    EntropyLow,
    KlRising,
    LengthDrift,
    Truncation,
)
from floe.cluster.health.reward_detectors import EqualRewards, ExecutesNotRight, constant_rewards, empty_rewards
from floe.configs.sections.health_section import HealthSection


class Detector(Protocol):
    def find(self, history: History) -> str | None:
        """Return a sentence with cause, figures, window, the limit's name and what to do; None for a healthy series."""


def detectors_of(limits: HealthSection) -> Mapping[str, Detector]:
    """Return every detector under its name in `health.actions`."""
    return {
        "equal_rewards": EqualRewards(limit_share=limits.equal_rewards_share),
        "executes_not_right": ExecutesNotRight(
            rise_share=limits.executes_rise_share, flat_share=limits.right_flat_share
        ),
        "constant_rewards": constant_rewards(limits.constant_reward_share),
        "empty_rewards": empty_rewards(limits.empty_reward_share),
        "entropy_low": EntropyLow(min_nats=limits.entropy_min_nats),
        "entropy_falling": EntropyFalling(limit_share=limits.entropy_fall_share),
        "truncation": Truncation(limit_share=limits.truncated_limit_share),
        "kl_rising": KlRising(limit_nats_per_step=limits.kl_slope_nats),
        "length_drift": LengthDrift(factor=limits.length_drift_factor),
        "accuracy_falling": AccuracyFalling(limit_share=limits.accuracy_fall_share),
    }


# Figures without which a detector says nothing.
FIGURES_OF: Mapping[str, tuple[str, ...]] = {
    "equal_rewards": ("zero_variance_share",),
    "executes_not_right": ("executes_share", "correct_share"),
    "constant_rewards": ("constant_reward_share",),
    "empty_rewards": ("empty_reward_share",),
    "entropy_low": ("entropy_estimate",),
    "entropy_falling": ("entropy_estimate",),
    "truncation": ("truncated_share",),
    "kl_rising": ("kl",),
    "length_drift": ("mean_completion_tokens",),
    "accuracy_falling": ("eval_greedy", "eval_num_questions"),
}
