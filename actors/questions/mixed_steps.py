"""Draws the questions of a mixture's steps: how many of each source, and which (pure)."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from floe.actors.questions.quotas import quotas
from floe.actors.questions.random_streams import middle_of_step, refill_order, steps_of_epoch
from floe.cluster.messages import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedSource:
    name: str
    questions: tuple[Question, ...]  # for training
    weight: float | None  # None: by size
    repeat: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShares:
    """Shares of the sources in questions a step: `parts[i] / denominator`; a last part beyond them asks nothing."""

    parts: tuple[int, ...]
    denominator: int

    def most(self, source: int) -> int:
        """Return the most questions that a step asks of the source."""
        return -(-self.parts[source] // self.denominator)


def shares_by_weight(sources: Sequence[MixedSource], num_questions: int) -> StepShares:
    """Return the shares of steps of `num_questions`: by the weights, or by size and repeats where there are none."""
    weights = [_weight(one) for one in sources]
    scale = sum(weights)
    fractions = [weight / scale for weight in weights]
    denominator = math.lcm(*(one.denominator for one in fractions))
    return StepShares(parts=tuple(int(one * denominator) * num_questions for one in fractions), denominator=denominator)


def shares_of_epochs(sources: Sequence[MixedSource], max_per_step: int) -> StepShares:
    """Return the shares of a run by epochs, each of which asks every question as often as its source is repeated.

    An epoch has the fewest steps of at most `max_per_step` questions, which are as long as one another, up to one.
    """
    parts = [len(one.questions) * one.repeat for one in sources]
    num_steps = steps_of_epoch(sum(parts), max_per_step)
    return StepShares(parts=(*parts, -sum(parts) % num_steps), denominator=num_steps)


def questions_of_mixed_step(
    sources: Sequence[MixedSource], shares: StepShares, step: int, run_seed: int
) -> list[Question]:
    """Return the questions of step `step` (from 1), none of them twice, in an order that mixes the sources.

    Each source is asked in passes over its questions, in the orders that epochs of this source alone have; a pass goes
    on where the step before ended. Raises ValueError for a source with fewer questions than a step asks of it.
    """
    for number, one in enumerate(sources):
        if shares.most(number) > len(one.questions):
            raise ValueError(f"a step asks {shares.most(number)} questions of {one.name}, it has {len(one.questions)}")
    course = _course(tuple(len(one.questions) for one in sources), shares, run_seed)
    asked = [sources[number].questions[index] for number, index in course.step(step).picks]
    random.Random(f"{run_seed}/mixture/{step}").shuffle(asked)
    return asked


def middle_of_mixed_step(
    sources: Sequence[MixedSource], shares: StepShares, rates: Mapping[str, float], step: int, run_seed: int
) -> list[Question]:
    """Return the questions of step `step`, those of each source drawn as `middle_of_step` does. Raises ValueError."""
    counts = _course(tuple(len(one.questions) for one in sources), shares, run_seed).step(step).counts
    asked = [
        question
        for one, count in zip(sources, counts, strict=False)
        for question in middle_of_step(one.questions, rates, step, count, run_seed)
    ]
    random.Random(f"{run_seed}/mixture/{step}").shuffle(asked)
    return asked


def first_of_mixed_step(
    sources: Sequence[MixedSource], shares: StepShares, orders: Sequence[Sequence[Question]], step: int, run_seed: int
) -> list[Question]:
    """Return the questions of step `step`: of each source the first ones of its order, as many as are its due."""
    counts = _course(tuple(len(one.questions) for one in sources), shares, run_seed).step(step).counts
    asked = [question for order, count in zip(orders, counts, strict=True) for question in order[:count]]
    random.Random(f"{run_seed}/mixture/{step}").shuffle(asked)
    return asked


def mixed_refill_order(
    sources: Sequence[MixedSource], shares: StepShares, asked: Sequence[Question], step: int, run_seed: int
) -> list[Question]:
    """Return every question that step `step` doesn't ask anyway, the sources taking turns by their shares."""
    orders = [refill_order(one.questions, asked, step, run_seed) for one in sources]
    return in_turns(orders, shares.parts[: len(sources)])


def in_turns(lists: Sequence[Sequence[Question]], shares: Sequence[float]) -> list[Question]:
    """Return all questions, each list in its order, the lists taking turns by their shares as long as they last."""
    turns = [(0.5 / share, number, 0) for number, (one, share) in enumerate(zip(lists, shares, strict=True)) if one]
    heapq.heapify(turns)
    merged = []
    while turns:
        _, number, index = heapq.heappop(turns)
        merged.append(lists[number][index])
        if index + 1 < len(lists[number]):
            heapq.heappush(turns, ((index + 1.5) / shares[number], number, index + 1))
    return merged


def _weight(source: MixedSource) -> Fraction:
    if source.weight is None:
        return Fraction(len(source.questions) * source.repeat)
    return Fraction(str(source.weight))  # the decimal that was typed


@dataclass(frozen=True, slots=True)
class _Step:
    counts: tuple[int, ...]
    picks: tuple[tuple[int, int], ...]  # number of the source, and of the question in it


class _Course:
    """The steps from the first one on, as far as they were asked for."""

    def __init__(self, steps: Iterator[_Step]) -> None:
        self._coming = steps
        self._known: list[_Step] = []

    def step(self, number: int) -> _Step:
        while len(self._known) < number:
            self._known.append(next(self._coming))
        return self._known[number - 1]


@lru_cache(maxsize=4)
def _course(sizes: tuple[int, ...], shares: StepShares, run_seed: int) -> _Course:
    return _Course(_steps(sizes, shares, run_seed))


def _steps(sizes: Sequence[int], shares: StepShares, run_seed: int) -> Iterator[_Step]:
    passes = [_Passes(size, run_seed) for size in sizes]
    for counts in quotas(shares.parts, shares.denominator):
        own = counts[: len(sizes)]
        picks = [(number, index) for number, count in enumerate(own) for index in passes[number].take(count)]
        yield _Step(own, tuple(picks))


class _Passes:
    """Orders of one source's questions, one after another."""

    def __init__(self, size: int, run_seed: int) -> None:
        self._size, self._run_seed = size, run_seed
        self._rest: list[int] = []
        self._num_passes = 0

    def take(self, count: int) -> list[int]:
        """Return the next `count`; where a pass ends among them, the next one begins with others than these."""
        taken, self._rest = self._rest[:count], self._rest[count:]
        if len(taken) < min(count, self._size):
            order = list(range(self._size))
            random.Random(f"{self._run_seed}/epoch/{self._num_passes}").shuffle(order)
            self._num_passes += 1
            known = set(taken)
            order = [one for one in order if one not in known] + [one for one in order if one in known]
            num_more = count - len(taken)
            taken, self._rest = taken + order[:num_more], order[num_more:]
        return taken
