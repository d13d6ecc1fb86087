"""Spreads a step's candidates over its questions, so that rare successes get larger groups (pure)."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from floe.actors.questions.posterior import Beta


def group_sizes(beliefs: Sequence[Beta], total: int, smallest: int, largest: int) -> list[int]:
    """Return how many candidates each question gets, between the bounds, in all exactly `total`.

    They maximise the sum of the groups' expected values. A group's value is that of "Knapsack RL" (arXiv 2509.25849):
    the chance that it has a right and a wrong candidate, and so a gradient, times what the question gains by that,
    p (1 - p)^2. (With p = 1 / (1 + e^-x), the score of a right answer is 1 - p, and p rises by p (1 - p) a unit of x.)
    Under the posterior the n-th candidate raises the value by E[p^n (1 - p)^3] + E[p^2 (1 - p)^(n + 1)], which falls
    with n: giving candidates one by one to the question that gains most is the maximum. Equal gains go to the question
    that comes first. Raises ValueError where no sizes within the bounds have this sum.
    """
    if not smallest * len(beliefs) <= total <= largest * len(beliefs):
        raise ValueError(f"{len(beliefs)} groups of {smallest} to {largest} candidates do not sum to {total}")
    sizes = [smallest] * len(beliefs)
    gains = [(-gain_of_candidate(one, smallest + 1), number) for number, one in enumerate(beliefs)]
    heapq.heapify(gains)
    for _ in range(total - smallest * len(beliefs)):
        number = _next_below(gains, sizes, largest)
        sizes[number] += 1
        heapq.heappush(gains, (-gain_of_candidate(beliefs[number], sizes[number] + 1), number))
    return sizes


def gain_of_candidate(belief: Beta, number: int) -> float:
    """Return what the candidate of this number, from 1, adds to the group's value: f(n) - f(n - 1)."""
    return belief.moment(number, 3) + belief.moment(2, number + 1)


def _next_below(gains: list[tuple[float, int]], sizes: Sequence[int], largest: int) -> int:
    while True:
        _, number = heapq.heappop(gains)
        if sizes[number] < largest:
            return number
