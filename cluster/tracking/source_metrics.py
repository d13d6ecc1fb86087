"""Rewards of scored groups as shares and means, of all of them and by the sources of a mixture (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TypeVar

from floe.cluster.messages import Outcome, Question, Score, ScoredGroup
from floe.learner.loss.term_advantages import any_term_varies

T = TypeVar("T")

SOURCE_PREFIX = "source/"  # begins the keys of a source's numbers: `source/<name>/reward_mean`


STEP_NUMBERS = ("num_questions", "reward_mean", "correct_share", "zero_variance_share")  # of a source in a record
EVALUATION_NUMBERS = ("eval_greedy", "eval_num_questions")  # where held-back questions were answered after the step


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMetrics:
    """What a step rolled out of one source. A share or mean of nothing is NaN."""

    name: str
    num_questions: int  # groups, those of refill rounds and those without a verdict included
    reward_mean: float
    correct_share: float
    zero_variance_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAccuracy:
    """Part of an evaluation during training that one source has."""

    name: str
    greedy: float  # NaN where no question has a verdict
    num_questions: int  # with a verdict


def sources_of(questions: Iterable[Question]) -> tuple[str, ...]:
    """Return the names of the questions' sources in a fixed order; none without a mixture."""
    return tuple(sorted({question.source for question in questions if question.source}))


def source_metrics(
    groups: Sequence[ScoredGroup], sources: Sequence[str] = (), by_terms: bool = False
) -> tuple[SourceMetrics, ...]:
    """Return the numbers of each source, by name: of `sources`, asked or not, and of any that the groups have."""
    names = sorted({*sources, *sources_of(group.rollout.question for group in groups)})
    return tuple(
        _metrics_of(name, [one for one in groups if one.rollout.question.source == name], by_terms) for name in names
    )


def source_accuracies(judged: Sequence[ScoredGroup], sources: Sequence[str]) -> tuple[SourceAccuracy, ...]:
    """Return the accuracy of each source; `judged` are groups of one greedy answer with its verdict."""
    right = {
        name: [one.scores[0].outcome is Outcome.MATCH for one in judged if one.rollout.question.source == name]
        for name in sources
    }
    return tuple(
        SourceAccuracy(name=name, greedy=mean(values), num_questions=len(values)) for name, values in right.items()
    )


def flat_by_source(metrics: Sequence[SourceMetrics], accuracies: Sequence[SourceAccuracy] = ()) -> dict[str, float]:
    """Return the numbers under `source/<name>/<number>`; those of an evaluation begin with `eval_` there."""
    numbers: dict[str, float] = {}
    for prefix, parts in (("", metrics), ("eval_", accuracies)):
        for part in parts:
            values = asdict(part)
            key = f"{SOURCE_PREFIX}{values.pop('name')}/{prefix}"
            numbers |= {f"{key}{name}": value for name, value in values.items()}
    return numbers


def values_by_source(values: Mapping[str, T], number: str) -> dict[str, T]:
    """Return one number of a flat record, `reward_mean` for example, by source; empty without a mixture."""
    end = f"/{number}"
    return {
        key[len(SOURCE_PREFIX) : -len(end)]: value
        for key, value in values.items()
        if key.startswith(SOURCE_PREFIX) and key.endswith(end)
    }


def reward_mean(groups: Sequence[ScoredGroup]) -> float:
    return mean([score.reward for score in _all_usable(groups) if score.reward is not None])


def correct_share(groups: Sequence[ScoredGroup]) -> float:
    """Return the share of right candidates among those whose outcome says it."""
    return mean([score.outcome is Outcome.MATCH for score in _all_usable(groups) if score.outcome.says_correctness])


def executes_share(groups: Sequence[ScoredGroup]) -> float:
    return mean([score.outcome.executes for score in _all_usable(groups) if score.outcome.says_correctness])


def zero_variance_share(groups: Sequence[ScoredGroup], by_terms: bool = False) -> float:
    """Return the share of the groups with rewards whose rewards are all equal: they have no advantage to learn from.

    With `by_terms` each term with a weight has to be equal too, by the learner's rule for
    `algorithm.advantage_terms=gdpo`. Raises UserError where such a group has no terms.
    """
    rewarded = [group for group in groups if _usable(group)]
    if by_terms:
        return mean([not any_term_varies(group, [_reward(score) for score in group.scores]) for group in rewarded])
    return mean([len({score.reward for score in _usable(group)}) == 1 for group in rewarded])


def mean(values: Sequence[float]) -> float:
    """Return the mean, NaN of nothing."""
    return fmean(values) if values else math.nan


def _metrics_of(name: str, groups: Sequence[ScoredGroup], by_terms: bool) -> SourceMetrics:
    return SourceMetrics(
        name=name,
        num_questions=len(groups),
        reward_mean=reward_mean(groups),
        correct_share=correct_share(groups),
        zero_variance_share=zero_variance_share(groups, by_terms),
    )


def _all_usable(groups: Sequence[ScoredGroup]) -> list[Score]:
    return [score for group in groups for score in _usable(group)]


def _usable(group: ScoredGroup) -> list[Score]:
    return [score for score in group.scores if _reward(score) is not None]


def _reward(score: Score) -> float | None:
    return score.reward if score.outcome.carries_reward else None
