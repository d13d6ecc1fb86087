"""Attention over a pack without a T x T mask: prefixes attend causally, branches to their prefix and themselves."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from learner.merged_attention import merged_attention
from learner.packing import GroupLayout

NAME = "floe_shared_prefix"
# Scores up to this size are computed at once, which is faster below it and slower above.
MAX_SCORES_BYTES = 24 * 2**20
FLOAT32_BYTES = 4


def shared_prefix_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, *, layout, **kwargs):
    """transformers attention function. query [1, H, T, D], key and value [1, K, T, D] with H a multiple of K.

    Returns [1, T, H, D] and None. Exact: the softmax of a branch token runs over its prefix and its own earlier
    tokens together.
    """
    # In the pack's order: a prefix, then its branches one after the other.
    pieces: list[torch.Tensor] = []
    for group in layout:
        span = slice(group.prefix_start, group.prefix_end)
        prefix = scaled_dot_product_attention(
            query[:, :, span], key[:, :, span], value[:, :, span], is_causal=True, scale=scaling, enable_gqa=True
        )
        pieces.append(prefix[0].transpose(0, 1))
        if len(group.branch_index):
            of_branches = _merged_branch_attention if _is_large(query, group) else _branch_attention
            branches = of_branches(query[0], key[0], value[0], group, scaling)
            pieces.append(branches[group.branch_is_real])
    return (pieces[0] if len(pieces) == 1 else torch.cat(pieces))[None], None


def _is_large(query, group: GroupLayout) -> bool:
    num_branches, width = group.branch_index.shape
    num_scores = query.shape[1] * num_branches * width * (group.prefix_end - group.prefix_start + width)
    has_kernel = query.device.type == "cpu" or query.dtype in (torch.bfloat16, torch.float16)
    return has_kernel and num_scores * FLOAT32_BYTES > MAX_SCORES_BYTES


def _merged_branch_attention(query, key, value, group: GroupLayout, scaling: float) -> torch.Tensor:
    """The same as `_branch_attention`, without the scores in memory."""
    # [N, heads, C, D]
    queries, keys, values = (one[:, group.branch_index].transpose(0, 1).contiguous() for one in (query, key, value))
    span = slice(group.prefix_start, group.prefix_end)
    return merged_attention(queries, keys, values, key[:, span], value[:, span], scaling).transpose(1, 2)


def _branch_attention(query, key, value, group: GroupLayout, scaling: float) -> torch.Tensor:
    """[N, C, H, D] of the branches of one group; query [H, T, D], key and value [K, T, D]."""
    num_branches, width = group.branch_index.shape
    num_kv, _, size = key.shape
    per_kv = query.shape[0] // num_kv
    flat = group.branch_index.reshape(-1)
    # [K, G, N, C, D]: the G query heads of a key head lie together, so that no key is repeated.
    queries = query[:, flat].reshape(num_kv, per_kv, num_branches, width, size) * scaling
    own_keys = key[:, flat].reshape(num_kv, num_branches, width, size)
    own_values = value[:, flat].reshape(num_kv, num_branches, width, size)
    span = slice(group.prefix_start, group.prefix_end)
    to_prefix = torch.matmul(queries.reshape(num_kv, -1, size), key[:, span].transpose(1, 2))
    to_prefix = to_prefix.reshape(num_kv, per_kv, num_branches, width, -1)
    by_branch = queries.permute(0, 2, 1, 3, 4).reshape(num_kv, num_branches, per_kv * width, size)
    to_own = torch.matmul(by_branch, own_keys.transpose(2, 3))
    to_own = to_own.reshape(num_kv, num_branches, per_kv, width, width).permute(0, 2, 1, 3, 4)
    later = torch.ones(width, width, dtype=torch.bool, device=query.device).triu(1)
    to_own = to_own.masked_fill(later, float("-inf"))
    share = torch.cat([to_prefix, to_own], dim=-1).softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    num_prefix = group.prefix_end - group.prefix_start
    from_prefix = torch.matmul(share[..., :num_prefix].reshape(num_kv, -1, num_prefix), value[:, span]).reshape(
        num_kv, per_kv, num_branches, width, size
    )
    own_share = share[..., num_prefix:].permute(0, 2, 1, 3, 4).reshape(num_kv, num_branches, per_kv * width, width)
    from_own = torch.matmul(own_share, own_values).reshape(num_kv, num_branches, per_kv, width, size)
    total = from_prefix + from_own.permute(0, 2, 1, 3, 4)
    return total.permute(2, 3, 0, 1, 4).reshape(num_branches, width, num_kv * per_kv, size)


ALL_ATTENTION_FUNCTIONS.register(NAME, shared_prefix_attention)
