"""Number of tokens that the engine takes in one step; light to import."""

from __future__ import annotations

MIN_BATCHED_TOKENS = 2048


def num_batched_tokens(context_tokens: int, max_num_seqs: int, on_cpu: bool) -> int:
    """Return the most tokens of one step.

    On a CPU a prompt is computed in one step, so it must fit. On a GPU it is computed in as many as it takes. From some
    300 tokens in bfloat16 on, a step is limited by the products and no longer by reading the weights, even on the
    fastest cards. More tokens then only take working memory, which grows with the context. vLLM takes no more sequences
    at a time than tokens.
    """
    return max(MIN_BATCHED_TOKENS, context_tokens if on_cpu else max_num_seqs)
