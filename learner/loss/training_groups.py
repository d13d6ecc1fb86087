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
    groups: Sequence[ScoredGroup], algorithm: AlgorithmSection, max_new_tokens: int, *, by_size: bool = False
) -> list[PrefixGroup]:
    """Groups that carry a gradient, with advantage and loss weight per branch; their weights sum to 1 over all tokens
    (`token`), over sequences (`sequence`), or are constant (`dr_grpo`: 1 / (sequences x max_new_tokens)). With
    `by_size`, for a run that gives its questions groups of unequal sizes, a candidate counts as `_shares` says.

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
    shares = _shares([len(group.scores) for group, _, _ in kept]) if by_size else [1.0] * len(kept)
    num_sequences = sum(share * len(indices) for share, (_, _, indices) in zip(shares, kept, strict=True))
    num_tokens = sum(
        share * len(group.rollout.completions[i].token_ids)
        for share, (group, _, indices) in zip(shares, kept, strict=True)
        for i in indices
    )
    result = []
    for share, (group, advantage, indices) in zip(shares, kept, strict=True):
        branches = []
        for index in indices:
            completion = group.rollout.completions[index]
            length = len(completion.token_ids)
            weight = {
                "token": share / num_tokens,
                "sequence": share / (num_sequences * length),
                "dr_grpo": share / (num_sequences * max_new_tokens),
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


def _shares(sizes: Sequence[int]) -> list[float]:
    """Return what a candidate of each group counts: in proportion to 1 / (n - 1), and 1 where all sizes n are equal.

    The n candidates of a group with advantages r - mean have an expected gradient of n - 1 times that of the expected
    reward, because each has a part in its own mean. Divided by n - 1, a larger group makes a question's gradient more
    accurate and not larger.
    """
    if not sizes:
        return []
    mean = sum(sizes) / len(sizes)
    return [1.0 if size == mean else (mean - 1) / (size - 1) for size in sizes]


def _trained_candidates(group: ScoredGroup, advantage: np.ndarray) -> list[int]:
    return [i for i, c in enumerate(group.rollout.completions) if c.token_ids and not np.isnan(advantage[i])]
