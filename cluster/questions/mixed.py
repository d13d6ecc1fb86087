"""The questions that a step of a mixture asks, by the shares of its sources."""

from __future__ import annotations

from collections.abc import Sequence

from floe.actors.questions.mixed_steps import (
    MixedSource,
    StepShares,
    middle_of_mixed_step,
    mixed_refill_order,
    questions_of_mixed_step,
    shares_by_weight,
    shares_of_epochs,
)
from floe.actors.questions.question_sets import QuestionSets
from floe.actors.sources.mixture import sources_of_training
from floe.cluster.messages import Question
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig


def asked_of_mixture(config: RunConfig, sets: QuestionSets, step: int) -> list[Question]:
    """Return what step `step` (from 1) asks first."""
    sources = sources_of_training(config.data, sets.train)
    shares = _shares(config, sources)
    if config.data.sampler == "middle":
        rates = {name: rate.share for name, rate in sets.pass_rates.items()}
        return middle_of_mixed_step(sources, shares, rates, step, config.run.seed)
    return questions_of_mixed_step(sources, shares, step, config.run.seed)


def refill_of_mixture(config: RunConfig, sets: QuestionSets, asked: Sequence[Question], step: int) -> list[Question]:
    """Return the other questions in the order in which the step's refill rounds take them."""
    sources = sources_of_training(config.data, sets.train)
    return mixed_refill_order(sources, _shares(config, sources), asked, step, config.run.seed)


def check_shares(config: RunConfig, train: Sequence[Question]) -> None:
    """Raise UserError for a mixture with a source that has fewer training questions than a step asks of it."""
    if not config.data.is_mixture:
        return
    sources = sources_of_training(config.data, train)
    shares = _shares(config, sources)
    for number, one in enumerate(sources):
        if shares.most(number) > len(one.questions):
            raise UserError(
                f"A step asks up to {shares.most(number)} questions of the source '{one.name}', which has "
                f"{len(one.questions)} for training: lower its weight or repeat, or rollout.questions_per_step."
            )


def _shares(config: RunConfig, sources: Sequence[MixedSource]) -> StepShares:
    if config.run.num_epochs is not None:
        return shares_of_epochs(sources, config.rollout.questions_per_step)
    return shares_by_weight(sources, config.rollout.questions_per_step)
