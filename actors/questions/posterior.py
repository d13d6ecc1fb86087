"""What a run believes of each question's pass rate: a Beta distribution, from counts that fade (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from floe.actors.questions.pass_rates import PassRate

PRIOR_SAMPLES = 2.0  # pseudo-candidates of the prior that all questions share; at a mean of one half it is flat


@dataclass(frozen=True, slots=True)
class Beta:
    """The distribution of a pass rate p; both counts are above 0."""

    right: float  # alpha: candidates that were right, and the prior's
    wrong: float  # beta

    @property
    def mean(self) -> float:
        return self.right / (self.right + self.wrong)

    @property
    def variance_of_reward(self) -> float:
        """E[p (1 - p)], the expected variance of a reward of 0 or 1: a b / ((a + b) (a + b + 1))."""
        total = self.right + self.wrong
        return self.right * self.wrong / (total * (total + 1))

    def moment(self, num_right: int, num_wrong: int) -> float:
        """Return E[p^i (1 - p)^j], the chance of a given order of i right and j wrong: B(a + i, b + j) / B(a, b)."""
        log = _log_beta(self.right + num_right, self.wrong + num_wrong) - _log_beta(self.right, self.wrong)
        return math.exp(log)

    def mixed_chance(self, num_samples: int) -> float:
        """Return the chance that a group of so many has a right and a wrong candidate: E[1 - p^n - (1 - p)^n]."""
        return max(0.0, 1.0 - self.moment(num_samples, 0) - self.moment(0, num_samples))


@dataclass(frozen=True, slots=True)
class Seen:
    """Candidates of one group that had a verdict; both counts are 0 where none had."""

    question_id: str
    num_right: int
    num_wrong: int


@dataclass(frozen=True, slots=True)
class FadedCount:
    """Right and wrong candidates of a question, as they weigh at step `step`, the last that asked it."""

    right: float
    wrong: float
    step: int


def with_step(
    counts: Mapping[str, FadedCount], step: int, seen: Iterable[Seen], discount: float
) -> dict[str, FadedCount]:
    """Return the counts by question id with the groups of `step` added, which is later than all in them.

    What a question had before is multiplied by `discount` for each step that has passed. The result depends on the
    groups alone, to the bit, and not on how often or when it was computed.
    """
    result = dict(counts)
    for one in seen:
        before = result.get(one.question_id)
        faded = 0.0 if before is None else discount ** (step - before.step)
        right, wrong = (0.0, 0.0) if before is None else (before.right * faded, before.wrong * faded)
        result[one.question_id] = FadedCount(right + one.num_right, wrong + one.num_wrong, step)
    return result


def posteriors(
    question_ids: Sequence[str],
    counts: Mapping[str, FadedCount],
    measured: Mapping[str, PassRate],
    *,
    through_step: int,
    discount: float,
    max_measured_samples: int,
) -> dict[str, Beta]:
    """Return the posterior of each question after the groups of the steps up to `through_step`.

    A rate that was measured before the run counts as candidates of step 0, at most `max_measured_samples` of them, and
    fades as others do. The prior that all share weighs `PRIOR_SAMPLES` candidates; its mean is the share of right ones
    among all of these counts, one right and one wrong candidate added.
    """
    own = {one: _faded(counts.get(one), through_step, discount) for one in question_ids}
    fading = discount ** max(0, through_step)
    for one in question_ids:
        if (rate := measured.get(one)) is not None:
            weight = min(rate.num_samples, max_measured_samples) * fading
            right, wrong = own[one]
            own[one] = right + weight * rate.share, wrong + weight * (1 - rate.share)
    all_right = math.fsum(right for right, _ in own.values())
    all_wrong = math.fsum(wrong for _, wrong in own.values())
    mean = (1 + all_right) / (2 + all_right + all_wrong)
    prior_right, prior_wrong = PRIOR_SAMPLES * mean, PRIOR_SAMPLES * (1 - mean)
    return {one: Beta(prior_right + right, prior_wrong + wrong) for one, (right, wrong) in own.items()}


def _faded(count: FadedCount | None, step: int, discount: float) -> tuple[float, float]:
    if count is None:
        return 0.0, 0.0
    factor = discount ** (step - count.step)
    return count.right * factor, count.wrong * factor


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
