"""The questions that a step of a mixture asks, by the shares of its sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from floe.actors.questions.mixed_steps import (
    MixedSource,
    StepShares,
    first_of_mixed_step,
    in_turns,
    middle_of_mixed_step,
    mixed_refill_order,
    questions_of_mixed_step,
    shares_by_weight,
    shares_of_epochs,
)
from floe.actors.questions.posterior import Beta
from floe.actors.questions.posterior_draw import order_by_posterior
from floe.actors.questions.question_sets import QuestionSets
from floe.actors.sources.mixture import sources_of_training
from floe.cluster.messages import Question
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig


def asked_of_mixture(config: RunConfig, sets: QuestionSets, step: int, beliefs: Mapping[str, Beta]) -> list[Question]:
    """Return what step `step` (from 1) asks first."""
    sources = sources_of_training(config.data, sets.train)
    shares = _shares(config, sources)
    if config.data.sampler == "posterior":
        orders = [order_of_draw(config, one.questions, step, beliefs) for one in sources]
        return first_of_mixed_step(sources, shares, orders, step, config.run.seed)
    if config.data.sampler == "middle":
        rates = {name: rate.share for name, rate in sets.pass_rates.items()}
        return middle_of_mixed_step(sources, shares, rates, step, config.run.seed)
    return questions_of_mixed_step(sources, shares, step, config.run.seed)


def refill_of_mixture(
    config: RunConfig, sets: QuestionSets, asked: Sequence[Question], step: int, beliefs: Mapping[str, Beta]
) -> list[Question]:
    """Return the other questions in the order in which the step's refill rounds take them."""
    sources = sources_of_training(config.data, sets.train)
    shares = _shares(config, sources)
    if config.data.sampler == "posterior":
        known = {one.question_id for one in asked}
        orders = [order_of_draw(config, one.questions, step, beliefs) for one in sources]
        rest = [[one for one in order if one.question_id not in known] for order in orders]
        return in_turns(rest, shares.parts[: len(sources)])
    return mixed_refill_order(sources, shares, asked, step, config.run.seed)


def order_of_draw(
    config: RunConfig, questions: Sequence[Question], step: int, beliefs: Mapping[str, Beta]
) -> list[Question]:
    """Return the questions as `data.sampler=posterior` draws them for step `step`."""
    return order_by_posterior(questions, beliefs, step, config.run.seed, config.data.exploration_share)


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
