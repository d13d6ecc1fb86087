"""Tells a curve of mean rewards that rises as it should from one that does not (pure)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from floe.configs.errors import UserError

WINDOW = 4  # steps that are averaged at either end
RISE_SHARE = 0.5  # of the smallest rise among healthy runs
LEAST_ROOM = 0.05  # of reward, on either side: seeds that happen to agree say little of the next one
MIN_RUNS = 3
# Two-sided 99 % points of Student's t for 3, 4, ... runs.
T_99 = (9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveRange:
    """What a healthy run's curve keeps to; rewards between 0 and 1."""

    num_steps: int
    least_rise: float  # of the last steps' mean over the first steps'
    low: float  # of the last steps' mean
    high: float


def start_of(rewards: Sequence[float]) -> float:
    return statistics.fmean(rewards[:WINDOW])


def end_of(rewards: Sequence[float]) -> float:
    return statistics.fmean(rewards[-WINDOW:])


def rise_of(rewards: Sequence[float]) -> float:
    """Return the last steps' mean reward less the first steps'."""
    return end_of(rewards) - start_of(rewards)


def range_of(runs: Sequence[Sequence[float]]) -> CurveRange:
    """Return the range from healthy runs of different seeds, each the mean reward of every step.

    The end's is a 99 % prediction interval for one more run. Raises UserError for too few runs, or of unequal length.
    """
    lengths = {len(run) for run in runs}
    if len(runs) < MIN_RUNS or len(lengths) != 1 or min(lengths) < 2 * WINDOW:
        raise UserError(
            f"A range of curves needs {MIN_RUNS} runs or more, all of the same {2 * WINDOW} steps or more, and there "
            f"are {len(runs)} of {sorted(lengths)} steps: run the part 'curve' of the record again."
        )
    ends = [end_of(run) for run in runs]
    factor = T_99[min(len(runs) - MIN_RUNS, len(T_99) - 1)]
    room = max(LEAST_ROOM, factor * statistics.stdev(ends) * math.sqrt(1 + 1 / len(ends)))
    middle = statistics.fmean(ends)
    return CurveRange(
        num_steps=lengths.pop(),
        least_rise=RISE_SHARE * min(rise_of(run) for run in runs),
        low=middle - room,
        high=middle + room,
    )


def complaints(rewards: Sequence[float], wanted: CurveRange) -> list[str]:
    """Return a sentence for each thing that is wrong with a curve; none for a healthy one."""
    if len(rewards) != wanted.num_steps:
        return [f"the curve has {len(rewards)} steps, and {wanted.num_steps} were to be made"]
    if not all(math.isfinite(one) for one in rewards):
        return ["the mean reward of a step is not a number"]
    found = []
    if not rise_of(rewards) >= wanted.least_rise:
        found.append(
            f"the mean reward rises by {rise_of(rewards):.3f}, from {start_of(rewards):.3f} to {end_of(rewards):.3f}, "
            f"and a healthy run's by {wanted.least_rise:.3f} or more"
        )
    if not wanted.low <= end_of(rewards) <= wanted.high:
        found.append(f"the mean reward ends at {end_of(rewards):.3f}, outside of {wanted.low:.3f} to {wanted.high:.3f}")
    return found
