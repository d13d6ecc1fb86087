"""Limits of what a run watches of itself: when it warns, and when it stops."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from floe.configs.sections.bounds import MAX_FACTOR
from floe.configs.sections.learning_sections import Section
from floe.configs.sections.resume_rule import Free

EQUALITY_LIMIT_S = 60.0  # tokens for comparing the learner's way with the model's own, where the run is short


class HealthSection(Section):
    """Limits on the difference of engine and learner, which compute the same log-probabilities.

    Rounding is the exception and, with staleness, later updates.
    """

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
