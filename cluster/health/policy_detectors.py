"""Detectors of a policy that degenerates: entropy, truncation, distance to the reference, length, accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from floe.cluster.health.history import NUM_EVALUATIONS, History

NOISE_FACTOR = 2.0  # standard errors of an accuracy that a fall has to exceed


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyLow:
    """Finds a policy that hardly samples: all candidates of a group become the same."""

    min_nats: float

    def find(self, history: History) -> str | None:
        entropy = history.mean("entropy_estimate")
        if entropy is None or entropy >= self.min_nats:
            return None
        return (
            f"the entropy was {entropy:.3g} nats per token in {history.window} (health.entropy_min_nats is "
            f"{self.min_nats:g}): the candidates of a group are nearly the same; raise rollout.temperature or "
            "algorithm.clip_high, or lower learner.learning_rate"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyFalling:
    """Finds that the entropy has fallen to a part of that of the run's first window."""

    limit_share: float

    def find(self, history: History) -> str | None:
        entropy, before = history.mean("entropy_estimate"), history.first_mean("entropy_estimate")
        if entropy is None or before is None or before <= 0 or entropy >= self.limit_share * before:
            return None
        return (
            f"the entropy fell from {before:.3g} nats per token in {history.first_window} to {entropy:.3g} in "
            f"{history.window}, to {100 * entropy / before:.1f} % (health.entropy_fall_share is "
            f"{100 * self.limit_share:g} %): the policy stops exploring; raise rollout.temperature, "
            "algorithm.clip_high or algorithm.kl_coefficient, or lower learner.learning_rate"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncation:
    """Finds that most completions are cut at the limit."""

    limit_share: float

    def find(self, history: History) -> str | None:
        share = history.mean("truncated_share")
        if share is None or share <= self.limit_share:
            return None
        return (
            f"{100 * share:.1f} % of the completions were cut in {history.window} (health.truncated_limit_share is "
            f"{100 * self.limit_share:g} %): raise rollout.max_new_tokens, set algorithm.overlong=punish, or lower "
            "learner.learning_rate if the policy no longer ends its answers"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KlRising:
    """Finds that the policy leaves its reference fast, by the median slope over the window (Theil and Sen).

    A single step's estimate, however large, does not move that slope.
    """

    limit_nats_per_step: float

    def find(self, history: History) -> str | None:
        values = history.values("kl")
        if values is None:
            return None
        slope = median_slope([(one.step, one.kl) for one in history.recent if one.kl is not None])
        if not slope > self.limit_nats_per_step:
            return None
        return (
            f"the KL divergence to the reference rose by {slope:.3g} nats per token and step in {history.window}, to "
            f"{values[-1]:.3g} (health.kl_slope_nats is {self.limit_nats_per_step:g}): the policy leaves its reference "
            "too fast; lower learner.learning_rate, or raise algorithm.kl_coefficient"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthDrift:
    """Finds that completions have become several times as long, or as short, as in the run's first window."""

    factor: float

    def find(self, history: History) -> str | None:
        length, before = history.mean("mean_completion_tokens"), history.first_mean("mean_completion_tokens")
        if length is None or before is None or before <= 0:
            return None
        if before / self.factor <= length <= before * self.factor:
            return None
        remedy = (
            "the reward may pay for length (algorithm.overlong=punish)"
            if length > before
            else "the policy may no longer answer"
        )
        return (
            f"completions went from {before:.1f} tokens in {history.first_window} to {length:.1f} in {history.window} "
            f"(health.length_drift_factor is {self.factor:g}): {remedy}; look at them with floe report, or lower "
            "learner.learning_rate"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyFalling:
    """Finds that evaluations in a row lie below the best one, by more than their own noise."""

    limit_share: float

    def find(self, history: History) -> str | None:
        best, last = history.best, history.last
        if best is None or len(last) < NUM_EVALUATIONS or best.num_questions <= 0:
            return None
        variance = max(0.0, best.greedy * (1 - best.greedy))  # a damaged record may hold no share
        noise = NOISE_FACTOR * math.sqrt(variance / best.num_questions)
        allowed = max(self.limit_share, noise)
        if not all(best.greedy - one.greedy > allowed for one in last):
            return None
        shown = " and ".join(f"{100 * one.greedy:.1f} % (version {one.version})" for one in last)
        return (
            f"the accuracy on held-back questions fell from {100 * best.greedy:.1f} % (version {best.version}) to "
            f"{shown}, by more than {100 * allowed:.1f} points (health.accuracy_fall_share is "
            f"{100 * self.limit_share:g} %): take adapters/best, and lower learner.learning_rate or end earlier"
        )


def median_slope(points: Sequence[tuple[int, float]]) -> float:
    """Return the median of the slopes between all pairs of points; 0 for fewer than two."""
    slopes = [(y - x) / (later - earlier) for (earlier, x), (later, y) in combinations(points, 2)]
    return median(slopes) if slopes else 0.0
