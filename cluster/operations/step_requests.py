"""The groups that a step asks for: one for each of its questions, and further ones where it is refilled."""

from __future__ import annotations

from collections.abc import Sequence

from actors.data.random_streams import questions_of_step, refill_order, stream_seed
from actors.prompt_encoder import PromptEncoder
from cluster.messages import GroupRequest, Question
from cluster.refill import Refill
from configs.schema import RunConfig
from learner.group_filter import carries_gradient


def requests_of_step(
    config: RunConfig, encoder: PromptEncoder, questions: Sequence[Question], step: int
) -> list[GroupRequest]:
    """What step `step` asks first; `questions` are those of training."""
    chosen = questions_of_step(questions, step, config.rollout.questions_per_step, config.run.seed)
    return [_request(config, encoder, question, step) for question in chosen]


def refill_of_run(config: RunConfig, encoder: PromptEncoder, questions: Sequence[Question]) -> Refill:
    """How the steps over `questions` are refilled: by the rule that the learner filters with."""

    def requests(step: int, *, num_before: int, num_wanted: int) -> list[GroupRequest]:
        order = refill_order(questions, step, config.rollout.questions_per_step, config.run.seed)
        return [_request(config, encoder, question, step) for question in order[num_before : num_before + num_wanted]]

    return Refill(
        max_rounds=config.algorithm.max_refill_rounds,
        carries_gradient=lambda group: carries_gradient(group, config.algorithm, config.rollout.max_new_tokens),
        requests=requests,
    )


def _request(config: RunConfig, encoder: PromptEncoder, question: Question, step: int) -> GroupRequest:
    return GroupRequest(
        question=question,
        prompt_token_ids=encoder.training_prompt(question),
        num_samples=config.rollout.group_size,
        temperature=config.rollout.temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=stream_seed(config.run.seed, f"step {step}", question.question_id),
    )
