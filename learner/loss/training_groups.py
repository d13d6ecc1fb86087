"""Turns scored groups into what the loss needs: advantages, weights, filters (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from floe.cluster.messages import ScoredGroup
from floe.configs.sections.learning_sections import AlgorithmSection
from floe.learner.loss.advantages import group_advantages
from floe.learner.loss.group_filter import carries_gradient
from floe.learner.loss.overlong import shaped_rewards
from floe.learner.loss.term_advantages import term_advantages
from floe.learner.packing.packs import Branch, PrefixGroup


def training_groups(
    groups: Sequence[ScoredGroup], algorithm: AlgorithmSection, max_new_tokens: int
) -> list[PrefixGroup]:
    """Groups that carry a gradient, with advantage and loss weight per branch; their weights sum to 1 over all tokens
    (`token`), over sequences (`sequence`), or are constant (`dr_grpo`: 1 / (sequences x max_new_tokens)).

    Left out: groups that carry no gradient, candidates without a reward, empty completions and, by option, truncated
    ones. Raises ValueError when a penalty is wanted whose buffer is not between 1 and `max_new_tokens`, and
    UserError when `gdpo` meets rewards without terms and weights.
    """
    rewards = [shaped_rewards(group, algorithm, max_new_tokens) for group in groups]
    if algorithm.advantage_terms == "gdpo":
        advantages = term_advantages(groups, rewards)
    else:
        advantages = group_advantages(rewards, algorithm.advantage_scale)
    kept = [
        (group, advantage, _trained_candidates(group, advantage))
        for group, shaped, advantage in zip(groups, rewards, advantages, strict=True)
        if carries_gradient(group, shaped, algorithm)
    ]
    num_sequences = sum(len(indices) for _, _, indices in kept)
    num_tokens = sum(len(group.rollout.completions[i].token_ids) for group, _, indices in kept for i in indices)
    result = []
    for group, advantage, indices in kept:
        branches = []
        for index in indices:
            completion = group.rollout.completions[index]
            length = len(completion.token_ids)
            weight = {
                "token": 1 / num_tokens,
                "sequence": 1 / (num_sequences * length),
                "dr_grpo": 1 / (num_sequences * max_new_tokens),
            }[algorithm.loss_aggregation]
            branches.append(
                Branch(
                    token_ids=completion.token_ids,
                    weight=weight,
                    advantage=float(advantage[index]),
                    engine_logprobs=completion.logprobs,
                )
            )
        rollout = group.rollout
        name = rollout.question.question_id
        result.append(PrefixGroup(prefix_ids=rollout.prompt_token_ids, branches=tuple(branches), name=name))
    return result


def _trained_candidates(group: ScoredGroup, advantage: np.ndarray) -> list[int]:
    return [i for i, c in enumerate(group.rollout.completions) if c.token_ids and not np.isnan(advantage[i])]
