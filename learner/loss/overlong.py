"""Completions that ran to the length limit: kept, left out or punished, before the advantages (pure)."""

from __future__ import annotations

from floe.cluster.messages import Completion, ScoredGroup
from floe.configs.sections.learning_sections import AlgorithmSection


def shaped_rewards(group: ScoredGroup, algorithm: AlgorithmSection, max_new_tokens: int) -> list[float | None]:
    """Return the rewards that the advantages are made of, one per completion; None stands for no reward.

    `keep`: as scored. `mask`: None for a truncated completion, so that it is left out of mean, std and loss (arXiv
    2503.14476, section 3.4, "overlong filtering"). `punish`: plus `soft_overlong_penalty`.
    """
    pairs = zip(group.rollout.completions, group.scores, strict=True)
    return [_shaped(completion, score.reward, algorithm, max_new_tokens) for completion, score in pairs]


def soft_overlong_penalty(num_tokens: int, max_new_tokens: int, buffer_tokens: int) -> float:
    """Return 0 up to `buffer_tokens` before the limit, from there linearly down to -1 at it (arXiv 2503.14476, eq. 13).

    Raises ValueError when the buffer is not between 1 and the limit.
    """
    if not 1 <= buffer_tokens <= max_new_tokens:
        raise ValueError(f"a buffer of {buffer_tokens} tokens is not between 1 and the limit of {max_new_tokens}")
    return max(-1.0, min(0.0, (max_new_tokens - buffer_tokens - num_tokens) / buffer_tokens))


def _shaped(
    completion: Completion, reward: float | None, algorithm: AlgorithmSection, max_new_tokens: int
) -> float | None:
    if reward is None or (algorithm.overlong == "mask" and completion.truncated):
        return None
    if algorithm.overlong == "punish":
        buffer_tokens = algorithm.overlong_buffer_tokens
        return reward + soft_overlong_penalty(len(completion.token_ids), max_new_tokens, buffer_tokens)
    return reward
