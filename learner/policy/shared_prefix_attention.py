"""Attention over a pack without a T x T mask: prefixes attend causally, branches to their prefix and themselves.

On a GPU a layer without rules computes all groups at once (`pack_attention`). Everything else goes group by group: on a
CPU by its own kernels, on a GPU by blocks of scores that the backward pass computes again. The kernels there take
neither float32 nor a window with shared key heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from floe.learner.device_kind import CPU, device_kind
from floe.learner.families.attention_rules import QUERY_BLOCK, AttentionRules, HiddenKeys
from floe.learner.families.family import ModelFamily
from floe.learner.packing.pack_index import PackIndex
from floe.learner.packing.packs import GroupLayout
from floe.learner.policy import pack_attention
from floe.learner.policy.merged_attention import merged_attention

NAME = "floe_shared_prefix"
# Scores up to this size are computed at once: faster below it, slower above.
MAX_SCORES_BYTES = 24 * 2**20
FLOAT32_BYTES = 4


def shared_prefix_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    layout: Sequence[GroupLayout],
    pack_index: PackIndex | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    family: ModelFamily | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers attention function. query [1, H, T, D], key [1, K, T, D] and value [1, K, T, E], H a multiple of K.

    Returns [1, T, H, E] and None. Exact: the softmax of a branch token runs over its prefix and its own earlier
    tokens together. `sliding_window`, `softcap` and `s_aux` are what transformers calls `AttentionRules`. `pack_index`
    is the pack's own, made here where it is not given. `family` is a plug-in that knows the rules better.
    """
    rules = AttentionRules(window=sliding_window, score_cap=softcap, sinks=s_aux)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if family is not None:
        rules, scaling = family.attention(module, rules, scaling)
    index = PackIndex.of(layout).to(query.device) if pack_index is None else pack_index
    if device_kind(query.device) != CPU and rules.are_idle(index.num_positions) and pack_attention.takes(query, value):
        q, k, v = (one[0].transpose(0, 1) for one in (query, key, value))
        return pack_attention.pack_attention(q, k, v, index, scaling)[None], None
    # In the pack's order: a prefix, then its branches one after the other.
    pieces: list[torch.Tensor] = []
    hidden = index.hidden_keys
    for group in layout:
        span = slice(group.prefix_start, group.prefix_end)
        of_span = query[0, :, span], key[0, :, span], value[0, :, span]
        pieces.append(_prefix_attention(*of_span, scaling, rules, hidden))
        if len(group.branch_index):
            branches = _branches(query[0], key[0], value[0], group, scaling, rules, hidden)
            pieces.append(branches.flatten(0, 1)[group.real_rows])
    return (pieces[0] if len(pieces) == 1 else torch.cat(pieces))[None], None


def _prefix_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    rules: AttentionRules,
    hidden: HiddenKeys,
) -> torch.Tensor:
    """Return [P, H, E] of one causal span; query [H, P, D], key [K, P, D], value [K, P, E]."""
    num_tokens = query.shape[1]
    has_kernel = rules.has_plain_scores and device_kind(query.device) == CPU
    if has_kernel and rules.are_idle(num_tokens):
        out = scaled_dot_product_attention(
            query[None], key[None], value[None], is_causal=True, scale=scaling, enable_gqa=True
        )
        return out[0].transpose(0, 1)
    blocks = []
    for start in range(0, num_tokens, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, num_tokens)
        first = rules.first_key(start)
        unseen = hidden.of(rules, range(start, end), range(first, end))
        of_block = query[:, start:end], key[:, first:end], value[:, first:end]
        if has_kernel:
            q, k, v = (one[None] for one in of_block)
            blocks.append(scaled_dot_product_attention(q, k, v, attn_mask=~unseen, scale=scaling, enable_gqa=True)[0])
        else:
            blocks.append(_computed_again(_ruled_span, *of_block, unseen, scaling, rules))
    return torch.cat(blocks, dim=1).transpose(0, 1)


def _computed_again(way: Callable[..., torch.Tensor], *given: Any) -> torch.Tensor:
    """Return `way(*given)`; only `given` is kept for the backward pass."""
    out: torch.Tensor = checkpoint(way, *given, use_reentrant=False, preserve_rng_state=False)
    return out


def _ruled_span(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    unseen: torch.Tensor,
    scaling: float,
    rules: AttentionRules,
) -> torch.Tensor:
    """Return [H, Q, E] of queries [H, Q, D] over keys [K, S, D]; `unseen` [Q, S] marks what each query does not see."""
    num_heads, num_queries, size = query.shape
    num_kv = key.shape[0]
    scores = torch.matmul(query.reshape(num_kv, -1, size) * scaling, key.transpose(1, 2))
    scores = rules.capped(scores).view(num_heads, num_queries, -1).masked_fill(unseen, float("-inf"))
    share = rules.shares(scores).view(num_kv, -1, scores.shape[-1])
    return torch.matmul(share, value).view(num_heads, num_queries, -1)


def _branches(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    group: GroupLayout,
    scaling: float,
    rules: AttentionRules,
    hidden: HiddenKeys,
) -> torch.Tensor:
    """Return [N, C, H, E] of the branches of one group; query [H, T, D], key [K, T, D], value [K, T, E]."""
    num_branches, width = group.branch_index.shape
    is_on_cpu = device_kind(query.device) == CPU
    is_large = _scores_bytes(query, group) > MAX_SCORES_BYTES
    if is_on_cpu and rules.are_idle(group.num_prefix + width):
        if is_large and query.shape[-1] == value.shape[-1]:
            return _merged_branch_attention(query, key, value, group, scaling)
        return _branch_attention(query, key, value, group.branch_index, _span(group, 0), scaling, hidden)
    # The first token of a branch sees the largest part of its prefix.
    span = _span(group, rules.first_key(group.num_prefix))
    if is_on_cpu and not is_large:
        return _branch_attention(query, key, value, group.branch_index, span, scaling, hidden, rules)
    num_each = max(1, num_branches * MAX_SCORES_BYTES // _scores_bytes(query, group))
    return torch.cat(
        [
            _computed_again(_branch_attention, query, key, value, index, span, scaling, hidden, rules)
            for index in group.branch_index.split(num_each)
        ]
    )


def _span(group: GroupLayout, first: int) -> slice:
    return slice(group.prefix_start + first, group.prefix_end)


def _scores_bytes(query: torch.Tensor, group: GroupLayout) -> int:
    num_branches, width = group.branch_index.shape
    num_keys = group.num_prefix + width
    num_bytes: int = query.shape[0] * num_branches * width * num_keys * FLOAT32_BYTES
    return num_bytes


def _merged_branch_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, group: GroupLayout, scaling: float
) -> torch.Tensor:
    """Return the same as `_branch_attention`, without the scores in memory."""
    # [N, heads, C, D]
    queries, keys, values = (one[:, group.branch_index].transpose(0, 1).contiguous() for one in (query, key, value))
    span = slice(group.prefix_start, group.prefix_end)
    return merged_attention(queries, keys, values, key[:, span], value[:, span], scaling).transpose(1, 2)


def _branch_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    branch_index: torch.Tensor,
    span: slice,
    scaling: float,
    hidden: HiddenKeys,
    rules: AttentionRules | None = None,
) -> torch.Tensor:
    """Return [N, C, H, E] of branches whose tokens are `branch_index` [N, C], after the part `span` of their prefix."""
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
    share = _shares_of_branches(to_prefix, to_own, hidden, rules)
    num_prefix = span.stop - span.start
    from_prefix = torch.matmul(share[..., :num_prefix].reshape(num_kv, -1, num_prefix), value[:, span]).reshape(
        num_kv, per_kv, num_branches, width, -1
    )
    own_share = share[..., num_prefix:].permute(0, 2, 1, 3, 4).reshape(num_kv, num_branches, per_kv * width, width)
    from_own = torch.matmul(own_share, own_values).reshape(num_kv, num_branches, per_kv, width, -1)
    total = from_prefix + from_own.permute(0, 2, 1, 3, 4)
    return total.permute(2, 3, 0, 1, 4).reshape(num_branches, width, num_kv * per_kv, -1)


def _shares_of_branches(
    to_prefix: torch.Tensor, to_own: torch.Tensor, hidden: HiddenKeys, rules: AttentionRules | None
) -> torch.Tensor:
    """Return [K, G, N, C, P + C] from the scores [K, G, N, C, P] and [K, G, N, C, C]."""
    num_prefix, width = to_prefix.shape[-1], to_own.shape[-1]
    if rules is None:
        later = hidden.of(AttentionRules(), range(width), range(width))
        scores = torch.cat([to_prefix, to_own.masked_fill(later, float("-inf"))], dim=-1)
        return scores.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)
    unseen = hidden.of(rules, range(num_prefix, num_prefix + width), range(num_prefix + width))
    scores = rules.capped(torch.cat([to_prefix, to_own], dim=-1)).masked_fill(unseen, float("-inf"))
    return rules.shares(scores.flatten(0, 1)).view(scores.shape)


ALL_ATTENTION_FUNCTIONS.register(NAME, shared_prefix_attention)
