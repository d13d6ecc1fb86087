"""Compares what a step's groups showed with what the posterior expected of them, and of a uniform draw (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from floe.actors.questions.posterior import Beta
from floe.cluster.loop.draw_figures import DrawFigures
from floe.cluster.messages import Outcome, Question, ScoredGroup
from floe.cluster.tracking.source_metrics import mean


def draw_figures(
    groups: Sequence[ScoredGroup],
    beliefs: Mapping[str, Beta],
    train: Sequence[Question],
    *,
    group_size: int,
    num_never_drawn: int,
    carries_gradient: Callable[[ScoredGroup], bool],
) -> DrawFigures:
    """Return the figures of a step that asked `groups` of the questions `train` with these beliefs."""
    of_source: dict[str, list[Beta]] = defaultdict(list)
    for question in train:
        of_source[question.source].append(beliefs[question.question_id])
    variance = {name: fmean(one.variance_of_reward for one in some) for name, some in of_source.items()}
    mixed = {name: fmean(one.mixed_chance(group_size) for one in some) for name, some in of_source.items()}
    sources = [group.rollout.question.source for group in groups]
    drawn = [beliefs[group.rollout.question.question_id] for group in groups]
    sizes = [len(group.scores) for group in groups]
    rates = [_pass_rate(group) for group in groups]
    known = [(belief.mean, rate) for belief, rate in zip(drawn, rates, strict=True) if rate is not None]
    return DrawFigures(
        variance_expected=mean([one.variance_of_reward for one in drawn]),
        variance_uniform=mean([variance[name] for name in sources]),
        mixed_share=mean([0 < rate < 1 for _, rate in known]),
        mixed_share_expected=mean([one.mixed_chance(size) for one, size in zip(drawn, sizes, strict=True)]),
        mixed_share_uniform=mean([mixed[name] for name in sources]),
        gradient_share=mean([carries_gradient(group) for group in groups]),
        pass_rate_predicted=mean([predicted for predicted, _ in known]),
        pass_rate_seen=mean([seen for _, seen in known]),
        pass_rate_error=mean([abs(predicted - seen) for predicted, seen in known]),
        num_never_drawn=num_never_drawn,
        smallest_group=min(sizes),
        largest_group=max(sizes),
    )


def _pass_rate(group: ScoredGroup) -> float | None:
    outcomes = [score.outcome for score in group.scores if score.outcome.says_correctness]
    return outcomes.count(Outcome.MATCH) / len(outcomes) if outcomes else None
