"""The groups that a step asks for: one for each of its questions, and further ones in refill rounds."""

from __future__ import annotations

from floe.actors.prompting.prompt_encoder import PromptEncoder
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
from floe.cluster.questions.mixed import asked_of_mixture, refill_of_mixture
from floe.configs.schema import RunConfig
from floe.learner.loss.group_filter import carries_gradient
from floe.learner.loss.overlong import shaped_rewards


def requests_of_step(config: RunConfig, encoder: PromptEncoder, sets: QuestionSets, step: int) -> list[GroupRequest]:
    """Return what step `step` asks first, from the training questions."""
    return [_request(config, encoder, question, step) for question in _first_asked(config, sets, step)]


def refill_of_run(config: RunConfig, encoder: PromptEncoder, sets: QuestionSets) -> Refill:
    """Return the rule of refilling steps over the training questions: the one that the learner filters with."""

    def requests(step: int, *, num_before: int, num_wanted: int) -> list[GroupRequest]:
        asked = _first_asked(config, sets, step)
        if config.data.is_mixture:
            order = refill_of_mixture(config, sets, asked, step)
        else:
            order = refill_order(sets.train, asked, step, config.run.seed)
        return [_request(config, encoder, question, step) for question in order[num_before : num_before + num_wanted]]

    def carries(group: ScoredGroup) -> bool:
        shaped = shaped_rewards(group, config.algorithm, config.rollout.max_new_tokens)
        return carries_gradient(group, shaped, config.algorithm)

    return Refill(
        max_rounds=config.algorithm.max_refill_rounds,
        carries_gradient=carries,
        requests=requests,
    )


def _first_asked(config: RunConfig, sets: QuestionSets, step: int) -> list[Question]:
    if config.data.is_mixture:
        return asked_of_mixture(config, sets, step)
    num_questions, seed = config.rollout.questions_per_step, config.run.seed
    if config.data.sampler == "middle":
        rates = {name: rate.share for name, rate in sets.pass_rates.items()}
        return middle_of_step(sets.train, rates, step, num_questions, seed)
    if config.run.num_epochs is not None:
        return questions_of_epochs_step(sets.train, step, num_questions, seed)
    return questions_of_step(sets.train, step, num_questions, seed)


def _request(config: RunConfig, encoder: PromptEncoder, question: Question, step: int) -> GroupRequest:
    return GroupRequest(
        group_id=f"step {step}: {question.question_id}",
        question=question,
        prompt_token_ids=encoder.training_prompt(question),
        num_samples=config.rollout.group_size,
        temperature=config.rollout.temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=stream_seed(config.run.seed, f"step {step}", question.question_id),
    )
