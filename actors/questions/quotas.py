"""Shares a step's questions out among the sources of a mixture, to within one question at every step (pure).

The questions that a share gives beyond whole ones are handed out as processor time is in fair scheduling, by algorithm
PF (Baruah, Cohen, Plaxton and Varvel, "Proportionate progress: a notion of fairness in resource allocation", 1996).
Rounding the cumulative shares alone would not do: with three sources or more it can take a question back.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cmp_to_key, partial


def quotas(parts: Sequence[int], denominator: int) -> Iterator[tuple[int, ...]]:
    """Yield each step's number of questions of each source, without end.

    `parts[i] / denominator` is the share of source i, in questions a step; the shares add up to a whole number. A
    step's number is its share rounded up or down, and so is the number of all steps so far.
    """
    rests = [part % denominator for part in parts]
    num_further = sum(rests) // denominator  # in each step, beyond the whole ones
    given = [0] * len(parts)  # further questions, so far
    for step in itertools.count():
        # The n-th further question of a source is due in a window of steps, whose ends its share alone decides.
        ready = [one for one, rest in enumerate(rests) if rest and given[one] * denominator // rest <= step]
        ready.sort(key=cmp_to_key(partial(_urgency, rests, given, denominator)))
        chosen = set(ready[:num_further])
        for one in chosen:
            given[one] += 1
        yield tuple(part // denominator + (one in chosen) for one, part in enumerate(parts))


def _urgency(rests: Sequence[int], given: Sequence[int], denominator: int, one: int, other: int) -> int:
    """Return below 0 where `one` goes first: its window ends earlier, or its next windows are the tighter ones."""
    first, second = given[one] + 1, given[other] + 1
    if (first, rests[one]) == (second, rests[other]):
        return one - other
    while True:
        end, overlaps = _window(first, rests[one], denominator)
        other_end, other_overlaps = _window(second, rests[other], denominator)
        if end != other_end:
            return end - other_end
        if overlaps != other_overlaps:
            return -1 if overlaps else 1
        if not overlaps:
            return one - other
        first, second = first + 1, second + 1


def _window(number: int, rest: int, denominator: int) -> tuple[int, bool]:
    """Return the end of the window of a source's `number`-th further question, and whether the next one overlaps."""
    whole_steps, beyond = divmod(number * denominator, rest)
    return whole_steps + (beyond > 0), beyond > 0
