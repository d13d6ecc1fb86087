"""Attention over a pack without a T x T mask: prefixes attend causally, branches to their prefix and themselves."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from learner.families.attention_rules import AttentionRules
from learner.merged_attention import merged_attention
from learner.packing import GroupLayout

NAME = "floe_shared_prefix"
# Scores up to this size are computed at once, which is faster below it and slower above.
MAX_SCORES_BYTES = 24 * 2**20
FLOAT32_BYTES = 4
QUERY_BLOCK = 512  # queries of a prefix whose scores are in memory together


def shared_prefix_attention(
    module,
    query,
    key,
    value,
    attention_mask,
    scaling=None,
    dropout=0.0,
    *,
    layout,
    sliding_window=None,
    softcap=None,
    s_aux=None,
    **kwargs,
):
    """transformers attention function. query [1, H, T, D], key [1, K, T, D] and value [1, K, T, E], H a multiple of K.

    Returns [1, T, H, E] and None. Exact: the softmax of a branch token runs over its prefix and its own earlier
    tokens together. `sliding_window`, `softcap` and `s_aux` are what transformers calls `AttentionRules`.
    """
    rules = AttentionRules(window=sliding_window, score_cap=softcap, sinks=s_aux)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    # In the pack's order: a prefix, then its branches one after the other.
    pieces: list[torch.Tensor] = []
    for group in layout:
        span = slice(group.prefix_start, group.prefix_end)
        pieces.append(_prefix_attention(query[0, :, span], key[0, :, span], value[0, :, span], scaling, rules))
        if len(group.branch_index):
            branches = _branches(query[0], key[0], value[0], group, scaling, rules)
            pieces.append(branches[group.branch_is_real])
    return (pieces[0] if len(pieces) == 1 else torch.cat(pieces))[None], None


def _prefix_attention(query, key, value, scaling: float, rules: AttentionRules) -> torch.Tensor:
    """[P, H, E] of one causal span; query [H, P, D], key [K, P, D], value [K, P, E]."""
    num_tokens = query.shape[1]
    if rules.are_idle(num_tokens):
        out = scaled_dot_product_attention(
            query[None], key[None], value[None], is_causal=True, scale=scaling, enable_gqa=True
        )
        return out[0].transpose(0, 1)
    positions = torch.arange(num_tokens, device=query.device)
    blocks = []
    for start in range(0, num_tokens, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, num_tokens)
        keys = slice(rules.first_key(start), end)
        seen = rules.sees(positions[start:end], positions[keys])
        of_block = query[:, start:end], key[:, keys], value[:, keys]
        if rules.has_plain_scores:
            q, k, v = (one[None] for one in of_block)
            blocks.append(scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scaling, enable_gqa=True)[0])
        else:
            blocks.append(checkpoint(_ruled_span, *of_block, seen, scaling, rules, use_reentrant=False))
    return torch.cat(blocks, dim=1).transpose(0, 1)


def _ruled_span(query, key, value, seen, scaling: float, rules: AttentionRules) -> torch.Tensor:
    """[H, Q, E] of queries [H, Q, D] over keys [K, S, D], of which `seen` [Q, S] says what each sees."""
    num_heads, num_queries, size = query.shape
    num_kv = key.shape[0]
    scores = torch.matmul(query.reshape(num_kv, -1, size) * scaling, key.transpose(1, 2))
    scores = rules.capped(scores).view(num_heads, num_queries, -1).masked_fill(~seen, float("-inf"))
    share = rules.shares(scores).view(num_kv, -1, scores.shape[-1])
    return torch.matmul(share, value).view(num_heads, num_queries, -1)


def _branches(query, key, value, group: GroupLayout, scaling: float, rules: AttentionRules) -> torch.Tensor:
    """[N, C, H, E] of the branches of one group; query [H, T, D], key [K, T, D], value [K, T, E]."""
    num_branches, width = group.branch_index.shape
    num_prefix = group.prefix_end - group.prefix_start
    is_large = _scores_bytes(query, group) > MAX_SCORES_BYTES
    if rules.are_idle(num_prefix + width):
        if is_large and _has_kernel(query, value):
            return _merged_branch_attention(query, key, value, group, scaling)
        return _branch_attention(query, key, value, group.branch_index, _span(group, 0), scaling)
    # The first token of a branch sees the most of its prefix.
    span = _span(group, rules.first_key(num_prefix))
    if not is_large:
        return _branch_attention(query, key, value, group.branch_index, span, scaling, rules)
    num_each = max(1, num_branches * MAX_SCORES_BYTES // _scores_bytes(query, group))
    return torch.cat(
        [
            checkpoint(_branch_attention, query, key, value, index, span, scaling, rules, use_reentrant=False)
            for index in group.branch_index.split(num_each)
        ]
    )


def _span(group: GroupLayout, first: int) -> slice:
    return slice(group.prefix_start + first, group.prefix_end)


def _scores_bytes(query, group: GroupLayout) -> int:
    num_branches, width = group.branch_index.shape
    num_keys = group.prefix_end - group.prefix_start + width
    return query.shape[0] * num_branches * width * num_keys * FLOAT32_BYTES


def _has_kernel(query, value) -> bool:
    is_taken = query.device.type == "cpu" or query.dtype in (torch.bfloat16, torch.float16)
    return is_taken and query.shape[-1] == value.shape[-1]


def _merged_branch_attention(query, key, value, group: GroupLayout, scaling: float) -> torch.Tensor:
    """The same as `_branch_attention`, without the scores in memory."""
    # [N, heads, C, D]
    queries, keys, values = (one[:, group.branch_index].transpose(0, 1).contiguous() for one in (query, key, value))
    span = slice(group.prefix_start, group.prefix_end)
    return merged_attention(queries, keys, values, key[:, span], value[:, span], scaling).transpose(1, 2)


def _branch_attention(
    query, key, value, branch_index, span: slice, scaling: float, rules: AttentionRules | None = None
) -> torch.Tensor:
    """[N, C, H, E] of branches whose tokens are `branch_index` [N, C], after the part `span` of their prefix."""
    num_branches, width = branch_index.shape
    num_kv, _, size = key.shape
    per_kv = query.shape[0] // num_kv
    flat = branch_index.reshape(-1)
    # [K, G, N, C, D]: the G query heads of a key head lie together, so that no key is repeated.
    queries = query[:, flat].reshape(num_kv, per_kv, num_branches, width, size) * scaling
    own_keys = key[:, flat].reshape(num_kv, num_branches, width, size)
    own_values = value[:, flat].reshape(num_kv, num_branches, width, -1)
    to_prefix = torch.matmul(queries.reshape(num_kv, -1, size), key[:, span].transpose(1, 2))
    to_prefix = to_prefix.reshape(num_kv, per_kv, num_branches, width, -1)
    by_branch = queries.permute(0, 2, 1, 3, 4).reshape(num_kv, num_branches, per_kv * width, size)
    to_own = torch.matmul(by_branch, own_keys.transpose(2, 3))
    to_own = to_own.reshape(num_kv, num_branches, per_kv, width, width).permute(0, 2, 1, 3, 4)
    share = _shares_of_branches(to_prefix, to_own, rules)
    num_prefix = span.stop - span.start
    from_prefix = torch.matmul(share[..., :num_prefix].reshape(num_kv, -1, num_prefix), value[:, span]).reshape(
        num_kv, per_kv, num_branches, width, -1
    )
    own_share = share[..., num_prefix:].permute(0, 2, 1, 3, 4).reshape(num_kv, num_branches, per_kv * width, width)
    from_own = torch.matmul(own_share, own_values).reshape(num_kv, num_branches, per_kv, width, -1)
    total = from_prefix + from_own.permute(0, 2, 1, 3, 4)
    return total.permute(2, 3, 0, 1, 4).reshape(num_branches, width, num_kv * per_kv, -1)


def _shares_of_branches(to_prefix, to_own, rules: AttentionRules | None) -> torch.Tensor:
    """[K, G, N, C, P + C] from the scores [K, G, N, C, P] and [K, G, N, C, C]."""
    num_prefix, width = to_prefix.shape[-1], to_own.shape[-1]
    if rules is None:
        later = torch.ones(width, width, dtype=torch.bool, device=to_own.device).triu(1)
        scores = torch.cat([to_prefix, to_own.masked_fill(later, float("-inf"))], dim=-1)
        return scores.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)
    positions = torch.arange(num_prefix + width, device=to_own.device)
    seen = rules.sees(positions[num_prefix:], positions)
    scores = rules.capped(torch.cat([to_prefix, to_own], dim=-1)).masked_fill(~seen, float("-inf"))
    return rules.shares(scores.flatten(0, 1)).view(scores.shape)


ALL_ATTENTION_FUNCTIONS.register(NAME, shared_prefix_attention)
