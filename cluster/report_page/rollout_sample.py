"""Chooses the groups of a long run that are shown: a fixed, stratified sample (pure).

Nothing is drawn by chance: the same file always gives the same page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from floe.cluster.messages import Outcome

MAX_CANDIDATES = 6_400  # 400 groups of 16
MAX_STEPS = 40
NUM_EDGE_STEPS = 3  # steps at either end of a run, all of which are shown


class Kind(StrEnum):
    """Kinds of groups by their result, for the strata of the sample and a filter of the page."""

    ALL_RIGHT = "all right"
    SOME_RIGHT = "some right"
    SOME_RUN = "none right, some run"
    NONE_RUN = "none runs"
    NO_VERDICT = "no verdict"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOutline:
    """One group before its candidates are read."""

    step: int
    group_index: int  # number within the step
    question_id: str
    outcomes: Mapping[Outcome, int]

    @property
    def num_candidates(self) -> int:
        return sum(self.outcomes.values())

    @property
    def kind(self) -> Kind:
        return kind_of(self.outcomes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A group with its place in its step's order as `rank`: where room is short, higher ranks go first."""

    outline: GroupOutline
    rank: int


def kind_of(outcomes: Mapping[Outcome, int]) -> Kind:
    judged = {outcome: count for outcome, count in outcomes.items() if outcome.says_correctness and count}
    if not judged:
        return Kind.NO_VERDICT
    if Outcome.MATCH in judged:
        return Kind.ALL_RIGHT if len(judged) == 1 else Kind.SOME_RIGHT
    return Kind.SOME_RUN if any(outcome.executes for outcome in judged) else Kind.NONE_RUN


def sampled_steps(num_candidates: Mapping[int, int], max_candidates: int = MAX_CANDIDATES) -> list[int]:
    """Return the sampled steps, given each one's number of candidates: all where these are few enough.

    Otherwise the first and last few, and evenly spaced ones between, together MAX_STEPS.
    """
    steps = sorted(num_candidates)
    if len(steps) <= MAX_STEPS or sum(num_candidates.values()) <= max_candidates:
        return steps
    inner = steps[NUM_EDGE_STEPS:-NUM_EDGE_STEPS]
    num_inner = MAX_STEPS - 2 * NUM_EDGE_STEPS
    spread = [inner[round((i + 0.5) * len(inner) / num_inner - 0.5)] for i in range(num_inner)]
    return [*steps[:NUM_EDGE_STEPS], *spread, *steps[-NUM_EDGE_STEPS:]]


def sampled_groups(outlines: Sequence[GroupOutline], max_candidates: int) -> list[Ranked]:
    """Return groups of one step in the order of their rank, as many as `max_candidates` allow and at least one.

    The kinds take turns, and within a kind a hash of the question decides, the same in every step: a question that is
    shown once is likely to be shown wherever it was asked.
    """
    ordered = sorted(outlines, key=lambda one: (_hash(one.question_id), one.group_index))
    strata = [[one for one in ordered if one.kind is kind] for kind in Kind]
    turns = [one for turn in range(len(ordered)) for stratum in strata for one in stratum[turn : turn + 1]]
    taken: list[Ranked] = []
    num_left = max_candidates
    for one in turns:
        if one.num_candidates <= num_left or not taken:
            taken.append(Ranked(outline=one, rank=len(taken)))
            num_left -= one.num_candidates
    return taken


def _hash(question_id: str) -> bytes:
    return hashlib.blake2b(question_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
