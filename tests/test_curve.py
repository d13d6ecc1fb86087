"""The check of a curve, on curves that are made up: healthy ones pass, flat, falling and wandering ones do not."""

from __future__ import annotations

import math
import random

import pytest

from floe.cluster.record.curve_check import CurveRange, complaints, end_of, range_of, rise_of
from floe.configs.errors import UserError

NUM_STEPS = 16
NOISE = 0.02


def curve(seed: int, first: float, last: float) -> list[float]:
    """Return mean rewards that go evenly from `first` to `last`, with noise."""
    drawn = random.Random(seed)
    steps = range(NUM_STEPS)
    return [first + (last - first) * step / (NUM_STEPS - 1) + drawn.gauss(0, NOISE) for step in steps]


def healthy(seed: int) -> list[float]:
    return curve(seed, 0.05, 0.28)


WANTED = range_of([healthy(seed) for seed in range(5)])


@pytest.mark.parametrize("seed", range(100, 110))
def test_a_healthy_run_of_another_seed_passes(seed):
    assert complaints(healthy(seed), WANTED) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("first", "last"), [(0.05, 0.05), (0.05, 0.0), (0.05, 0.1), (0.2, 0.1)])
def test_a_curve_that_does_not_rise_is_named(seed, first, last):
    (found, *_) = complaints(curve(seed, first, last), WANTED)
    assert found.startswith("the mean reward rises by ") and "healthy run's by" in found


def test_an_end_outside_of_the_range_is_named_though_the_curve_rises():
    wanted = CurveRange(num_steps=NUM_STEPS, least_rise=0.1, low=0.2, high=0.3)
    assert complaints(curve(1, 0.3, 0.6), wanted) == [
        f"the mean reward ends at {end_of(curve(1, 0.3, 0.6)):.3f}, outside of 0.200 to 0.300"
    ]


@pytest.mark.parametrize("change", [lambda one: one[:-1], lambda one: [*one, 0.3]])
def test_a_curve_of_another_length_is_named(change):
    assert "were to be made" in complaints(change(healthy(7)), WANTED)[0]


def test_a_reward_that_is_no_number_is_named():
    assert complaints([*healthy(7)[:-1], math.nan], WANTED) == ["the mean reward of a step is not a number"]


def test_the_range_follows_from_the_runs():
    runs = [[0.0] * 4 + [0.1] * 4, [0.0] * 4 + [0.2] * 4, [0.0] * 4 + [0.3] * 4]
    found = range_of(runs)
    assert (found.num_steps, found.least_rise) == (8, pytest.approx(0.05))
    room = 9.925 * 0.1 * math.sqrt(1 + 1 / 3)  # Student's t for 2 degrees of freedom, standard deviation 0.1
    assert (found.low, found.high) == (pytest.approx(0.2 - room), pytest.approx(0.2 + room))


def test_seeds_that_agree_leave_room_for_the_next_one():
    found = range_of([[0.0] * 4 + [0.3] * 4] * 5)
    assert (found.low, found.high) == (pytest.approx(0.25), pytest.approx(0.35))
    assert rise_of([0.0] * 4 + [0.3] * 4) == pytest.approx(0.3)


@pytest.mark.parametrize("runs", [[], [[0.1] * 16] * 2, [[0.1] * 16, [0.1] * 16, [0.1] * 15], [[0.1] * 7] * 3])
def test_too_few_or_unequal_runs_make_no_range(runs):
    with pytest.raises(UserError, match="run the part 'curve' of the record again"):
        range_of(runs)
