"""Dynamic sampling: further questions for a step in which too few groups carry a gradient.

From DAPO (arXiv 2503.14476, section 3.2), which samples several times the batch at once and leaves out the surplus.
Here a round asks exactly as many questions as are missing: no useful group is ever thrown away, but there are more
rounds, each as long as its longest completion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from floe.cluster.loop.group_collection import Collected, Rewards, Rollouts, collect
from floe.cluster.messages import GroupRequest, ScoredGroup


class RefillRequests(Protocol):
    def __call__(self, step: int, *, num_before: int, num_wanted: int) -> Sequence[GroupRequest]:
        """Return the next `num_wanted` after the `num_before` of the step's earlier rounds; fewer at their end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refill:
    """Settings of the rounds: at most `max_rounds` a step, of the groups that `requests` gives; 0 rounds is off."""

    max_rounds: int
    carries_gradient: Callable[[ScoredGroup], bool]
    requests: RefillRequests


def collect_step(
    rollouts: Rollouts,
    rewards: Rewards,
    requests: Sequence[GroupRequest],
    step: int,
    version: int,
    answer_start: str,
    refill: Refill,
) -> Collected:
    """Return the groups of `requests`, then those of the rounds that replace the ones without a gradient.

    Every group stays, useful or not. All come from adapter `version`: rounds don't add to the staleness.
    """
    collected = collect(rollouts, rewards, requests, version, answer_start)
    for _ in range(refill.max_rounds):
        num_before = len(collected.groups) - len(requests)
        num_missing = len(requests) - sum(refill.carries_gradient(group) for group in collected.groups)
        further = refill.requests(step, num_before=num_before, num_wanted=num_missing) if num_missing else ()
        if not further:
            break
        collected += collect(rollouts, rewards, further, version, answer_start)
    return collected
