"""Attention over all groups of a pack at once, by PyTorch's flash kernel for sequences of any length.

However many groups there are, a layer takes two calls of the kernel. One is causal over every prefix and every branch
as separate sequences; the other computes each group's branches over its prefix. Nothing is padded, no score is in
memory, and the kernel shares a key head among its query heads by itself. It is a kernel for GPUs and half precision,
which has never run here; on a CPU its arithmetic is computed sequence by sequence, for tests and proofs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch

from floe.learner.custom_gradient import applied
from floe.learner.packing.pack_index import PackIndex, Segments

_flash = torch.ops.aten._flash_attention_forward
_flash_backward = torch.ops.aten._flash_attention_backward
_on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_on_cpu_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

KERNEL_TYPES = torch.bfloat16, torch.float16
MAX_HEAD_SIZE = 192  # the forward pass takes 256, the backward pass not on every GPU
HEAD_SIZE_STEP = 8
MIN_CAPABILITY = 8, 0  # compute capability: Ampere


def takes(query: torch.Tensor, value: torch.Tensor) -> bool:
    """Return whether the kernel for GPUs takes heads of this size and type, on this GPU."""
    size = query.shape[-1]
    if size != value.shape[-1] or size % HEAD_SIZE_STEP or size > MAX_HEAD_SIZE or query.dtype not in KERNEL_TYPES:
        return False
    return query.device.type != "cuda" or torch.cuda.get_device_capability(query.device) >= MIN_CAPABILITY


def pack_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, index: PackIndex, scaling: float
) -> torch.Tensor:
    """Return [T, H, D]: each token sees its own prefix or branch up to itself, and a branch's token its whole prefix.

    query [T, H, D], key and value [T, K, D], H a multiple of K. One softmax over both: the parts are merged by their
    log-sum-exp (arXiv 2205.14135, section 3.1), and each part's gradient is the kernel's own, given the merged output
    and the merged log-sum-exp.
    """
    return applied(_PackAttention, query, key, value, index, scaling)


class _PackAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, index: PackIndex, scaling: float
    ) -> torch.Tensor:
        out, lse = _forward(query, key, value, index.sequences, index.sequences, True, scaling)
        rows = index.branch_rows
        if len(rows):
            keys, values = (one.index_select(0, index.prefix_rows) for one in (key, value))
            queries = query.index_select(0, rows)
            prefix, prefix_lse = _forward(queries, keys, values, index.branches, index.prefixes, False, scaling)
            own, own_lse = out.index_select(0, rows), lse.index_select(1, rows)
            merged = torch.logaddexp(own_lse, prefix_lse)
            own_share, prefix_share = ((one - merged).exp().t()[..., None] for one in (own_lse, prefix_lse))
            out.index_copy_(0, rows, (own * own_share + prefix * prefix_share).to(out.dtype))
            lse.index_copy_(1, rows, merged)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.index, ctx.scaling = index, scaling
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        index = ctx.index
        gradient = gradient.contiguous()
        sequences = index.sequences, index.sequences
        found = _backward(gradient, query, key, value, out, lse, *sequences, True, ctx.scaling)
        rows = index.branch_rows
        if len(rows):
            of_rows = [one.index_select(0, rows) for one in (gradient, query, out)]
            keys, values = (one.index_select(0, index.prefix_rows) for one in (key, value))
            given = of_rows[0], of_rows[1], keys, values, of_rows[2], lse.index_select(1, rows)
            more = _backward(*given, index.branches, index.prefixes, False, ctx.scaling)
            for whole, part, where in zip(found, more, (rows, index.prefix_rows, index.prefix_rows), strict=True):
                whole.index_add_(0, where, part)
        return *found, None, None


def _forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    of_queries: Segments,
    of_keys: Segments,
    is_causal: bool,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output [T, H, D] and the log-sum-exp [H, T] of each segment of queries over its segment of keys."""
    if query.device.type == "cpu":
        return _forward_by_segment(query, key, value, of_queries, of_keys, is_causal, scaling)
    segments = of_queries.bounds, of_keys.bounds, of_queries.longest, of_keys.longest
    out, lse, *_ = _flash(query, key, value, *segments, 0.0, is_causal, False, scale=scaling)
    return out, lse


def _backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    of_queries: Segments,
    of_keys: Segments,
    is_causal: bool,
    scaling: float,
) -> tuple[torch.Tensor, ...]:
    """Return the gradients of query, key and value."""
    if query.device.type == "cpu":
        return _backward_by_segment(gradient, query, key, value, out, lse, of_queries, of_keys, is_causal, scaling)
    segments = of_queries.bounds, of_keys.bounds, of_queries.longest, of_keys.longest
    # Without dropout the random state is never read.
    state = torch.zeros(2, dtype=torch.uint64, device=query.device), torch.empty(0, device=query.device)
    given = gradient, query, key, value, out, lse
    gradients: tuple[torch.Tensor, ...] = _flash_backward(*given, *segments, 0.0, is_causal, *state, scale=scaling)
    return gradients


def _pairs(of_queries: Segments, of_keys: Segments) -> Iterator[tuple[slice, slice]]:
    both = of_queries.bounds.tolist(), of_keys.bounds.tolist()
    for queries, keys in zip(*map(pairwise, both), strict=True):
        yield slice(*queries), slice(*keys)


def _by_head(tensor: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Return [S, K, D] as [1, H, S, D], each key head as often as it has query heads."""
    return tensor.transpose(0, 1).repeat_interleave(num_heads // tensor.shape[1], dim=0)[None]


def _forward_by_segment(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    of_queries: Segments,
    of_keys: Segments,
    is_causal: bool,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    outs, lses = [], []
    for of_query, of_key in _pairs(of_queries, of_keys):
        heads = (_by_head(one, query.shape[1]) for one in (query[of_query], key[of_key], value[of_key]))
        out, lse = _on_cpu(*heads, 0.0, is_causal, scale=scaling)
        outs.append(out[0].transpose(0, 1))
        lses.append(lse[0])
    return torch.cat(outs), torch.cat(lses, dim=1)


def _backward_by_segment(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    of_queries: Segments,
    of_keys: Segments,
    is_causal: bool,
    scaling: float,
) -> tuple[torch.Tensor, ...]:
    num_heads, num_kv = query.shape[1], key.shape[1]
    found = []
    for of_query, of_key in _pairs(of_queries, of_keys):
        rows = of_query, of_query, of_key, of_key, of_query
        tensors = gradient, query, key, value, out
        heads = [_by_head(one[where], num_heads) for one, where in zip(tensors, rows, strict=True)]
        parts = _on_cpu_backward(*heads, lse[None, :, of_query], 0.0, is_causal, scale=scaling)
        of_query_heads, *of_key_heads = (one[0].transpose(0, 1) for one in parts)
        summed = (one.unflatten(1, (num_kv, num_heads // num_kv)).sum(dim=2) for one in of_key_heads)
        found.append((of_query_heads, *summed))
    return tuple(torch.cat(one) for one in zip(*found, strict=True))
