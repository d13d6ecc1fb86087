"""The groups that a step asks for: one for each of its questions, and further ones in refill rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.group_sizes import group_sizes
from floe.actors.questions.posterior import Beta
from floe.actors.questions.question_sets import QuestionSets
from floe.actors.questions.random_streams import (
    middle_of_step,
    questions_of_epochs_step,
    questions_of_step,
    refill_order,
    stream_seed,
)
from floe.cluster.loop.dynamic_sampling import Refill
from floe.cluster.messages import GroupRequest, Question, ScoredGroup
from floe.cluster.questions.mixed import asked_of_mixture, order_of_draw, refill_of_mixture
from floe.cluster.questions.run_posterior import RunPosterior
from floe.configs.schema import RunConfig
from floe.learner.loss.group_filter import carries_gradient
from floe.learner.loss.overlong import shaped_rewards


def requests_of_step(
    config: RunConfig, encoder: PromptEncoder, sets: QuestionSets, step: int, posterior: RunPosterior | None = None
) -> list[GroupRequest]:
    """Return what step `step` asks first, from the training questions; a run that keeps a posterior gives it."""
    beliefs = _beliefs(config, posterior, step)
    return _requests(config, encoder, _first_asked(config, sets, step, beliefs), step, beliefs)


def refill_of_run(
    config: RunConfig, encoder: PromptEncoder, sets: QuestionSets, posterior: RunPosterior | None = None
) -> Refill:
    """Return the rule of refilling steps over the training questions: the one that the learner filters with."""

    def requests(step: int, *, num_before: int, num_wanted: int) -> list[GroupRequest]:
        beliefs = _beliefs(config, posterior, step)
        order = _refill_order(config, sets, step, beliefs)
        return _requests(config, encoder, order[num_before : num_before + num_wanted], step, beliefs)

    def carries(group: ScoredGroup) -> bool:
        shaped = shaped_rewards(group, config.algorithm, config.rollout.max_new_tokens)
        return carries_gradient(group, shaped, config.algorithm)

    return Refill(
        max_rounds=config.algorithm.max_refill_rounds,
        carries_gradient=carries,
        requests=requests,
    )


def _beliefs(config: RunConfig, posterior: RunPosterior | None, step: int) -> Mapping[str, Beta]:
    """Return the beliefs of the step; none where the run keeps no posterior."""
    if not config.keeps_posterior:
        return {}
    if posterior is None:
        raise ValueError("the run draws or sizes its groups by a posterior, and none was given")
    return posterior.before(step)


def _first_asked(config: RunConfig, sets: QuestionSets, step: int, beliefs: Mapping[str, Beta]) -> list[Question]:
    if config.data.is_mixture:
        return asked_of_mixture(config, sets, step, beliefs)
    num_questions, seed = config.rollout.questions_per_step, config.run.seed
    if config.data.sampler == "posterior":
        return order_of_draw(config, sets.train, step, beliefs)[:num_questions]
    if config.data.sampler == "middle":
        rates = {name: rate.share for name, rate in sets.pass_rates.items()}
        return middle_of_step(sets.train, rates, step, num_questions, seed)
    if config.run.num_epochs is not None:
        return questions_of_epochs_step(sets.train, step, num_questions, seed)
    return questions_of_step(sets.train, step, num_questions, seed)


def _refill_order(config: RunConfig, sets: QuestionSets, step: int, beliefs: Mapping[str, Beta]) -> list[Question]:
    """Return the other questions in the order of the refill rounds; drawn by a posterior, the draw goes on."""
    asked = _first_asked(config, sets, step, beliefs)
    if config.data.is_mixture:
        return refill_of_mixture(config, sets, asked, step, beliefs)
    if config.data.sampler == "posterior":
        return order_of_draw(config, sets.train, step, beliefs)[len(asked) :]
    return refill_order(sets.train, asked, step, config.run.seed)


def _requests(
    config: RunConfig, encoder: PromptEncoder, questions: Sequence[Question], step: int, beliefs: Mapping[str, Beta]
) -> list[GroupRequest]:
    """Return a group for each question, `rollout.group_size` candidates on average."""
    rollout = config.rollout
    sizes = [rollout.group_size] * len(questions)
    if rollout.has_unequal_groups:
        drawn = [beliefs[one.question_id] for one in questions]
        sizes = group_sizes(drawn, sum(sizes), rollout.smallest_group, rollout.largest_group)
    return [_request(config, encoder, one, size, step) for one, size in zip(questions, sizes, strict=True)]


def _request(
    config: RunConfig, encoder: PromptEncoder, question: Question, num_samples: int, step: int
) -> GroupRequest:
    return GroupRequest(
        group_id=f"step {step}: {question.question_id}",
        question=question,
        prompt_token_ids=encoder.training_prompt(question),
        num_samples=num_samples,
        temperature=config.rollout.temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=stream_seed(config.run.seed, f"step {step}", question.question_id),
    )
