"""The guard's state in a checkpoint: a run that continues finds what an undisturbed one would."""

from __future__ import annotations

from dataclasses import dataclass, field

from floe.cluster.health.finding import HealthFinding
from floe.cluster.health.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class BestVersion:
    """The version that a roll-back goes to."""

    version: int
    value: float | None  # by which it is the best; None: the run's start, which nothing was measured of
    measure: str  # in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A detector's last finding, and how many it had."""

    step: int
    num_times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardState:
    """The state after a step."""

    history: History
    said: dict[str, Said] = field(default_factory=dict)  # by detector
    best: BestVersion | None = None
    num_roll_backs: int = 0
    rate_factor: float = 1.0  # of the learning rate, by the roll-backs so far
    oldest_version: int = 0  # the version of the last roll-back: later steps are generated with no older one
    due: HealthFinding | None = None  # the roll-back that takes the next step's place
