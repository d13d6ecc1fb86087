"""Rows of the before/after table: of all questions, and of each source of a mixture."""

from __future__ import annotations

from dataclasses import dataclass

from floe.cluster.evaluation.intervals import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    """Shares of questions (or of samples) of one policy, each with its interval; None where nothing was asked."""

    name: str
    temperature: float
    entropy: float | None
    greedy: Interval | None
    sampled: Interval
    pass_at_n: Interval
    greedy_executes: Interval | None
    sampled_executes: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Paired difference of one policy to another on the same questions; above 0 is better."""

    name: str
    to: str
    greedy: Interval | None
    sampled: Interval
    pass_at_n: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRows:
    """Rows and differences over the questions of one source of a mixture."""

    source: str
    num_questions: int
    rows: tuple[PolicyRow, ...]
    differences: tuple[Difference, ...]
