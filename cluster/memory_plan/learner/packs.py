"""The heaviest pack of a given length: prompts once, each with its completions (pure)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from floe.configs.schema import RunConfig

# Most scores of a group in memory at one time (learner/policy/shared_prefix_attention.py: 24 MiB of float32).
MAX_SCORES = 24 * 2**20 // 4
# Completions are padded to their group's longest, assumed to be twice their mean.
PADDING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PackShape:
    num_tokens: int
    num_branch_rows: int  # completions' tokens with the padding that attention sees
    num_scores: int  # attention scores in memory in one layer, over all heads and groups
    num_scores_of_group: int  # of the largest group


def largest_pack_tokens(config: RunConfig) -> int:
    """Return the tokens of the largest pack; one completion with its prompt may exceed `max_pack_tokens`."""
    return max(config.learner.max_pack_tokens, config.model.max_context_tokens)


def heaviest_pack(config: RunConfig, num_heads: int, num_tokens: int) -> PackShape:
    """Return a bound over every pack of so many tokens.

    A group of t tokens has at most t x min(t, context) scores a head. Those of a group over the limit are never in
    memory, so the worst case is many groups just below it.
    """
    whole_group = config.max_prompt_tokens + config.rollout.largest_group * config.rollout.max_new_tokens
    group = min(num_tokens, whole_group)
    scores = min(num_heads * group * min(group, config.model.max_context_tokens), MAX_SCORES)
    at_limit = max(1, math.isqrt(MAX_SCORES // num_heads))
    return PackShape(
        num_tokens=num_tokens,
        num_branch_rows=PADDING * num_tokens,
        num_scores=math.ceil(scores * max(1.0, num_tokens / min(whole_group, at_limit))),
        num_scores_of_group=scores,
    )


def exact_pack(num_heads: int, prompt_tokens: int, completion_tokens: int, num_completions: int) -> PackShape:
    """Return the pack of one group whose completions have one length."""
    rows = num_completions * completion_tokens
    scores = num_heads * rows * (prompt_tokens + completion_tokens)
    in_memory = scores if scores <= MAX_SCORES else 0
    return PackShape(
        num_tokens=prompt_tokens + rows, num_branch_rows=rows, num_scores=in_memory, num_scores_of_group=in_memory
    )
