"""Limits of what a run watches of itself: when it warns, and when it stops."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from floe.configs.sections.bounds import MAX_COUNT, MAX_FACTOR
from floe.configs.sections.learning_sections import Section
from floe.configs.sections.resume_rule import Free

EQUALITY_LIMIT_S = 60.0  # tokens for comparing the learner's way with the model's own, where the run is short


MAX_WINDOW_STEPS = 1000

DetectorName = Literal[
    "equal_rewards",
    "executes_not_right",
    "constant_rewards",
    "empty_rewards",
    "entropy_low",
    "entropy_falling",
    "truncation",
    "kl_rising",
    "length_drift",
    "accuracy_falling",
]


class HealthAction(StrEnum):
    """What follows from a finding of the guard."""

    IGNORE = "ignore"  # not looked for
    WARN = "warn"
    STOP = "stop"
    ROLL_BACK = "roll_back"


class HealthSection(Section):
    """Limits on the series of a run's steps, and on the difference of engine and learner in one step.

    Engine and learner compute the same log-probabilities; rounding is the exception and, with staleness, later updates.
    """

    action: Free[HealthAction] = Field(
        HealthAction.WARN,
        description="What a detector's finding leads to: `warn`, `stop`, `roll_back` (to the best version, with a "
        "lower learning rate), or `ignore`.",
    )
    actions: Free[dict[DetectorName, HealthAction]] = Field(
        {}, description="Actions of single detectors, as in `{entropy_low: stop, length_drift: ignore}`."
    )
    window_steps: Free[int] = Field(
        8, ge=2, le=MAX_WINDOW_STEPS, description="Steps that a detector takes the mean or slope of."
    )
    equal_rewards_share: Free[float] = Field(
        0.95, ge=0, le=1, description="Finds that more of the groups have equal rewards."
    )
    executes_rise_share: Free[float] = Field(
        0.25, ge=0, le=1, description="Finds that the share of candidates that run rose by more since the first window"
    )
    right_flat_share: Free[float] = Field(
        0.02, ge=0, le=1, description="... while that of right ones rose by less than this."
    )
    constant_reward_share: Free[float] = Field(
        0.5, ge=0, le=1, description="Finds that constant answers earn more of the reward."
    )
    empty_reward_share: Free[float] = Field(
        0.8, ge=0, le=1, description="Finds that queries with an empty result earn more of the reward."
    )
    entropy_min_nats: Free[float] = Field(
        0.01, ge=0, le=MAX_FACTOR, description="Finds a lower entropy while sampling, per token."
    )
    entropy_fall_share: Free[float] = Field(
        0.2, ge=0, le=1, description="Finds that the entropy is a smaller part of that of the first window."
    )
    truncated_limit_share: Free[float] = Field(
        0.5, ge=0, le=1, description="Finds that more of the completions are cut at rollout.max_new_tokens."
    )
    kl_slope_nats: Free[float] = Field(
        0.05, ge=0, le=MAX_FACTOR, description="Finds that the KL divergence rises faster, per token and step."
    )
    length_drift_factor: Free[float] = Field(
        3.0, gt=1, le=MAX_FACTOR, description="Finds completions this many times as long, or as short, as at first."
    )
    accuracy_fall_share: Free[float] = Field(
        0.1,
        ge=0,
        le=1,
        description="Finds that two evaluations in a row (evaluation.every_steps) lie further below the best one.",
    )
    roll_back_rate_factor: Free[float] = Field(
        0.5, gt=0, le=1, description="Factor of the learning rate after each roll-back."
    )
    max_roll_backs: Free[int] = Field(
        2, ge=0, le=MAX_COUNT, description="Roll-backs of a run; the finding after them stops it."
    )
    mismatch_warn_nats: Free[float] = Field(
        0.2,
        gt=0,
        le=MAX_FACTOR,
        description="Warns when a step's mean difference of engine and learner is above, per token.",
    )
    mismatch_stop_nats: Free[float] = Field(1.0, gt=0, le=MAX_FACTOR, description="Stops the run above this.")
    largest_mismatch_warn_nats: Free[float] = Field(
        10.0, gt=0, le=MAX_FACTOR, description="Warns when the worst single token's difference is above."
    )
    largest_mismatch_stop_nats: Free[float] = Field(30.0, gt=0, le=MAX_FACTOR, description="Stops the run above this.")
    sample_size_warn_share: Free[float] = Field(
        0.5, ge=0, le=1, description="Warns when the importance weights leave less than this share of the tokens."
    )
    sample_size_stop_share: Free[float] = Field(0.05, ge=0, le=1, description="Stops the run below this.")

    def action_of(self, detector: str) -> HealthAction:
        return next((action for name, action in self.actions.items() if name == detector), self.action)

    @model_validator(mode="after")
    def _warns_before_it_stops(self) -> Self:
        for name in ("mismatch", "largest_mismatch"):
            warn, stop = getattr(self, f"{name}_warn_nats"), getattr(self, f"{name}_stop_nats")
            if warn > stop:
                raise ValueError(
                    f"health.{name}_warn_nats is {warn:g}, above health.{name}_stop_nats, {stop:g}: a run would stop "
                    "before it warns"
                )
        if self.sample_size_warn_share < self.sample_size_stop_share:
            raise ValueError(
                f"health.sample_size_warn_share is {self.sample_size_warn_share:g}, below "
                f"health.sample_size_stop_share, {self.sample_size_stop_share:g}: a run would stop before it warns"
            )
        return self
