"""The candidates of a group, grouped by identical SQL (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from floe.cluster.messages import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRow:
    """One candidate; `completion` is cut, the SQL is whole."""

    sample_index: int
    completion: str
    sql: str | None
    reward: float | None
    outcome: Outcome
    message: str
    num_tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRows:
    step: int
    group_index: int
    question_id: str
    database_id: str
    question: str
    adapter_version: int
    candidates: tuple[CandidateRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SameSql:
    """Candidates that share SQL, outcome and reward; message and completion are those of the first."""

    sql: str | None
    outcome: Outcome
    reward: float | None
    message: str
    completion: str
    samples: tuple[int, ...]  # indices within the group
    num_truncated: int
    mean_tokens: float


def same_sql(candidates: Sequence[CandidateRow]) -> list[SameSql]:
    """Group the candidates: the highest reward first, of equal ones the more frequent, then the earlier."""
    found: dict[tuple[str | None, Outcome, float | None], list[CandidateRow]] = {}
    for one in candidates:
        found.setdefault((one.sql, one.outcome, one.reward), []).append(one)
    together = [_together(members) for members in found.values()]
    return sorted(together, key=lambda one: (-_or_least(one.reward), -len(one.samples), one.samples))


def _together(members: Sequence[CandidateRow]) -> SameSql:
    first = members[0]
    return SameSql(
        sql=first.sql,
        outcome=first.outcome,
        reward=first.reward,
        message=first.message,
        completion=first.completion,
        samples=tuple(one.sample_index for one in members),
        num_truncated=sum(one.truncated for one in members),
        mean_tokens=sum(one.num_tokens for one in members) / len(members),
    )


def _or_least(reward: float | None) -> float:
    return float("-inf") if reward is None else reward
