"""Draws a step's questions by what a run believes of their pass rates (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from floe.actors.questions.posterior import Beta
from floe.actors.questions.random_streams import SEED_BITS, stream_seed
from floe.cluster.messages import Question


def order_by_posterior(
    questions: Sequence[Question],
    beliefs: Mapping[str, Beta],
    step: int,
    run_seed: int,
    exploration_share: float,
) -> list[Question]:
    """Return all questions in the order in which step `step` draws them: the step asks the first ones, refills go on.

    Each draw is without replacement by the probabilities of `draw_shares`: the order of the largest u^(1/w) (Efraimidis
    and Spirakis, "Weighted random sampling with a reservoir", 2006). A question's u derives from (seed, step,
    question), so that it is the same whatever the other questions are.
    """
    shares = draw_shares(questions, beliefs, exploration_share)

    def key(question: Question) -> float:
        return math.log(_uniform(run_seed, step, question)) / shares[question.question_id]

    return sorted(questions, key=key, reverse=True)


def draw_shares(
    questions: Sequence[Question], beliefs: Mapping[str, Beta], exploration_share: float
) -> dict[str, float]:
    """Return the probability of each question in a single draw; they sum to 1.

    It is E[p (1 - p)] under the question's posterior over the sum of all, and a share of the draws is uniform: with N
    questions none is below `exploration_share` / N.
    """
    weights = {one.question_id: beliefs[one.question_id].variance_of_reward for one in questions}
    total, floor = math.fsum(weights.values()), exploration_share / len(weights)
    return {name: (1 - exploration_share) * weight / total + floor for name, weight in weights.items()}


def _uniform(run_seed: int, step: int, question: Question) -> float:
    """Return a number above 0 and at most 1."""
    return math.ldexp(stream_seed(run_seed, f"posterior {step}", question.question_id) + 1, -SEED_BITS)
