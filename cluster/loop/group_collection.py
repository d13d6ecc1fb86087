"""Generates groups and has each scored as soon as it is finished, while others still generate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from floe.cluster.loop.draw_figures import DrawFigures
from floe.cluster.messages import (
    AdapterManifest,
    AdapterReceipt,
    Candidate,
    GroupRequest,
    RolloutGroup,
    Score,
    ScoredGroup,
    ScoreRequest,
)


class Rollouts(Protocol):
    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterable[RolloutGroup]: ...
    def install(self, manifest: AdapterManifest) -> list[AdapterReceipt]: ...


class Rewards(Protocol):
    def submit(self, request: ScoreRequest) -> Any: ...
    def result(self, ticket: Any) -> tuple[Score, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    groups: tuple[ScoredGroup, ...]  # in the order of the requests, not of arrival
    rollout_s: float  # until the last group was generated, less the time that scoring held it up
    reward_s: float  # that time, and from the last group until the last score: what scoring adds to the step
    adapter_version: int | None = None  # the adapter version of all groups; None: the base model
    num_rounds: int = 1  # of generating and scoring, one after the other
    learner_waited_s: float = 0.0  # until the groups were there
    rollouts_waited_s: float = 0.0  # for a version that is not too old, or for their turn
    ready_steps: int = 0  # generated steps that wait behind this one
    draw: DrawFigures | None = None  # of the whole step, in runs that estimate pass rates

    def __add__(self, later: Collected) -> Collected:
        """Join both, one after the other: groups in that order, seconds and rounds added up."""
        return Collected(
            groups=self.groups + later.groups,
            rollout_s=self.rollout_s + later.rollout_s,
            reward_s=self.reward_s + later.reward_s,
            adapter_version=self.adapter_version,
            num_rounds=self.num_rounds + later.num_rounds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """Asks for profiles of the results, and for so many timings of each match of a greedy group."""

    num_timings: int


def collect(
    rollouts: Rollouts,
    rewards: Rewards,
    requests: Sequence[GroupRequest],
    adapter_version: int | None,
    answer_start: str,
    profiles: Profiles | None = None,
    *,
    correctness_only: bool = False,
    note_answers: Callable[[int], object] = lambda _: None,
) -> Collected:
    """Return every request's group with its scores; `answer_start` is put back in front of each completion.

    With `correctness_only` scores are of correctness, whatever the run's reward design. `note_answers` gets the number
    of completions so far, after each group.
    """
    started = time.perf_counter()
    waiting = []
    held_up_s, num_answered = 0.0, 0
    for group in rollouts.generate(requests, adapter_version):
        before_submit = time.perf_counter()
        waiting.append((group, rewards.submit(_score_request(group, answer_start, profiles, correctness_only))))
        held_up_s += time.perf_counter() - before_submit
        num_answered += len(group.completions)
        note_answers(num_answered)
    generated = time.perf_counter()
    scored = {group.group_id: ScoredGroup(rollout=group, scores=rewards.result(ticket)) for group, ticket in waiting}
    return Collected(
        groups=tuple(scored[request.group_id] for request in requests),
        rollout_s=generated - started - held_up_s,
        reward_s=time.perf_counter() - generated + held_up_s,
        adapter_version=adapter_version,
    )


def _score_request(
    group: RolloutGroup, answer_start: str, profiles: Profiles | None, correctness_only: bool
) -> ScoreRequest:
    return ScoreRequest(
        question_id=group.question.question_id,
        database_id=group.question.database_id,
        gold_sql=group.question.gold_sql,
        candidates=tuple(Candidate(completion=answer_start + completion.text) for completion in group.completions),
        question=group.question.text,
        evidence=group.question.evidence,
        correctness_only=correctness_only,
        with_profiles=profiles is not None,
        num_timings=profiles.num_timings if profiles is not None and group.temperature == 0 else 0,
        semantics=group.question.semantics,
    )
