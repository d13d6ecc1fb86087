"""The answer of a gold query, inside an executor child."""

from __future__ import annotations

from dataclasses import dataclass

from floe.cluster.messages import Outcome
from floe.reward_service.comparison.comparison import Answer
from floe.reward_service.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Gold:
    """A gold query's verdict and, when it could be run, its answer on each database of the suite."""

    verdict: Verdict
    answers: tuple[Answer, ...] = ()
    lasts: bool = False  # the same bytes will always give the same answer

    @property
    def is_empty(self) -> bool:
        return all(not answer.rows for answer in self.answers)


def failed_gold(verdict: Verdict) -> Gold:
    if verdict.outcome is Outcome.INFRASTRUCTURE:
        return Gold(verdict)
    text = f"gold SQL ended as {verdict.outcome}: {verdict.message}"
    lasts = verdict.outcome in (Outcome.SYNTAX_ERROR, Outcome.RUNTIME_ERROR, Outcome.REJECTED)
    return Gold(Verdict(Outcome.GOLD_FAILED, text, verdict.seconds), lasts=lasts)
