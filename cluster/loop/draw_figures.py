"""What a step's draw was expected to bring, and what it brought: in runs that estimate pass rates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawFigures:
    """Figures over all groups of a step, refill rounds included; a share or mean of nothing is NaN.

    A group is mixed when it has a right and a wrong candidate. What was expected is by the posterior that drew the
    questions. `uniform` is what it expects of a uniform draw, in a mixture of the same number from each source, in
    groups of `rollout.group_size`.
    """

    variance_expected: float  # E[p (1 - p)] of the drawn, their mean
    variance_uniform: float
    mixed_share: float  # of the groups with a verdict
    mixed_share_expected: float
    mixed_share_uniform: float
    gradient_share: float  # of all groups: those that the learner trains on
    pass_rate_predicted: float  # mean over the groups with a verdict
    pass_rate_seen: float
    pass_rate_error: float  # mean absolute difference of the two by group, chance of the samples included
    num_never_drawn: int  # training questions that no step up to this one has asked
    smallest_group: int  # candidates
    largest_group: int
