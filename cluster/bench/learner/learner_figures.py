"""Results of the learner bench for each case, and what follows from them: ratios, targets, the fit (pure)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from floe.cluster.bench.learner.learner_cases import Case
from floe.cluster.bench.targets import Target
from floe.cluster.time_plan.update_flops import Flops, Work

SHARED, UNSHARED = "floe, prompt shared", "floe, unshared"
TRL, TRL_AS_SHIPPED = "trl, head over completions", "trl, as shipped"
# As the option --ways names them; the shared way is always measured.
WAYS = {"shared": SHARED, "unshared": UNSHARED, "trl": TRL, "trl-as-shipped": TRL_AS_SHIPPED}
SHARE_OF_FLOP_RATIO = 0.85
SHARE_OF_LIMIT = 0.45  # of the matmul limit, for groups that have something to share
SHARE_AT_SIZE_1 = 0.95
MIN_R_SQUARED = 0.98
# Relative, of the loss: between this learner's layouts, and to another implementation. In bfloat16 two layouts' log-
# probabilities of a token differ by about 0.07 either way, which averages out over many; fewer tokens get more room.
OWN_TOLERANCE, TRL_TOLERANCE = 1e-3, 1e-2
NUM_AVERAGED_TOKENS = 384


@dataclass
class Tally:
    """Measurements of one way for one case."""

    peak_gib: float  # of its first micro-batch with the optimiser's step, beyond models and optimisers
    seconds: list[float] = field(default_factory=list)  # by round
    losses: list[float] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


@dataclass
class Result:
    """Figures of one case.

    `limits_s`, by round, is the time that the shared way's matmuls need alone; empty if it was not asked for.
    """

    case: Case
    shared: Work
    shared_flops: Flops
    unshared_flops: Flops
    ways: dict[str, Tally]
    limits_s: list[float] = field(default_factory=list)

    @property
    def flop_ratio(self) -> float:
        return self.unshared_flops.total / self.shared_flops.total

    @property
    def limit_s(self) -> float:
        return statistics.median(self.limits_s)

    @property
    def matmul_flops_per_s(self) -> float:
        return self.shared_flops.total / self.limit_s

    @property
    def share_of_limit(self) -> float:
        return self.limit_s / self.ways[SHARED].median_s

    def speedup(self, over: str) -> float | None:
        """Return how many times as fast as `over` the shared way is; None where the other was not measured."""
        return self.ways[over].median_s / self.ways[SHARED].median_s if over in self.ways else None

    def trained_per_s(self, way: str) -> float:
        return self.case.num_trained / self.ways[way].median_s


def check_agreement(result: Result) -> None:
    """Raise RuntimeError when the ways' losses of one case differ: their times would be of different work."""
    shared = statistics.median(result.ways[SHARED].losses)
    room = max(1.0, math.sqrt(NUM_AVERAGED_TOKENS / result.case.num_trained))
    for name, tally in result.ways.items():
        tolerance = room * (OWN_TOLERANCE if name in (SHARED, UNSHARED) else TRL_TOLERANCE)
        for loss in tally.losses:
            if not abs(loss - shared) <= tolerance * abs(shared):
                raise RuntimeError(
                    f"{result.case.shape}, group of {result.case.group_size}: the loss of '{name}' is {loss:.6g}, "
                    f"that of '{SHARED}' {shared:.6g}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A straight line through seconds against packed tokens."""

    ms_per_token: float
    constant_ms: float
    r_squared: float


def linear_fit(sweep: Sequence[Result]) -> Fit:
    tokens = [float(result.shared.num_tokens) for result in sweep]
    seconds = [result.ways[SHARED].median_s for result in sweep]
    slope, constant = statistics.linear_regression(tokens, seconds)
    return Fit(
        ms_per_token=1000 * slope,
        constant_ms=1000 * constant,
        r_squared=statistics.correlation(tokens, seconds) ** 2,
    )


def targets(shapes: Sequence[Result], sweep: Sequence[Result], fit: Fit | None) -> list[Target]:
    """Return the ratios and their targets; `fit` is None where no sweep was asked for."""
    found = [
        Target(
            name=f"shared / unshared, {result.case.name} (FLOP ratio {result.flop_ratio:.2f})",
            ratio=result.speedup(UNSHARED),
            at_least=SHARE_OF_FLOP_RATIO * result.flop_ratio if result.case.group_size > 1 else SHARE_AT_SIZE_1,
        )
        for result in shapes
    ]
    found += [
        Target(name="shared / unshared, group of 1", ratio=result.speedup(UNSHARED), at_least=SHARE_AT_SIZE_1)
        for result in sweep
        if result.case.group_size == 1
    ]
    found += [
        Target(name=f"shared / {TRL}, {result.case.name}", ratio=result.speedup(TRL), at_least=1.0) for result in shapes
    ]
    found += [
        Target(name=f"shared / {way}, slowest of all", ratio=_slowest((*shapes, *sweep), way), at_least=1.0)
        for way in (TRL, TRL_AS_SHIPPED)
    ]
    found += [
        Target(
            name=f"share of the matmul limit, {result.case.name}", ratio=result.share_of_limit, at_least=SHARE_OF_LIMIT
        )
        for result in shapes
        if result.limits_s and result.case.group_size > 1
    ]
    if fit is not None:
        found.append(Target(name="R^2 of seconds against packed tokens", ratio=fit.r_squared, at_least=MIN_R_SQUARED))
    return found


def _slowest(results: Sequence[Result], over: str) -> float | None:
    return min((ratio for result in results if (ratio := result.speedup(over)) is not None), default=None)
