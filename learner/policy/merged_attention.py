"""Attention over two sets of keys at once, by PyTorch's flash kernel for CPUs: the scores are never in memory."""

from __future__ import annotations

from typing import Any

import torch

from floe.learner.custom_gradient import applied

_on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward_on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def merged_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    prefix_keys: torch.Tensor,
    prefix_values: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """Return [N, H, C, D]: each of the C queries of a branch sees the whole prefix and its own branch up to itself.

    queries [N, H, C, D], keys and values [N, K, C, D], prefix_keys and prefix_values [K, P, D], H a multiple of K. One
    softmax over both sets: the parts are merged by their log-sum-exp (arXiv 2205.14135, section 3.1), and each part's
    gradient is the kernel's own, given the merged output and the merged log-sum-exp.
    """
    per_kv = queries.shape[1] // keys.shape[1]
    keys, values = (one.repeat_interleave(per_kv, dim=1) for one in (keys, values))
    return applied(_MergedAttention, queries, keys, values, prefix_keys[None], prefix_values[None], scaling)


class _MergedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        prefix_keys: torch.Tensor,
        prefix_values: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        folded = _fold(queries, prefix_keys.shape[1])
        own, own_lse = _on_cpu(queries, keys, values, 0.0, True, scale=scaling)
        prefix, prefix_lse = _on_cpu(folded, prefix_keys, prefix_values, 0.0, False, scale=scaling)
        prefix = _unfold(prefix, queries)
        prefix_lse = _unfold(prefix_lse[..., None], queries)[..., 0]
        lse = torch.logaddexp(own_lse, prefix_lse)
        merged: torch.Tensor = own * (own_lse - lse).exp()[..., None] + prefix * (prefix_lse - lse).exp()[..., None]
        out = merged.to(queries.dtype)
        ctx.save_for_backward(queries, keys, values, prefix_keys, prefix_values, out, lse)
        ctx.scaling = scaling
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        queries, keys, values, prefix_keys, prefix_values, out, lse = ctx.saved_tensors
        gradient = gradient.contiguous()
        own = _backward_on_cpu(gradient, queries, keys, values, out, lse, 0.0, True, scale=ctx.scaling)
        num_kv = prefix_keys.shape[1]
        prefix = _backward_on_cpu(
            _fold(gradient, num_kv),
            _fold(queries, num_kv),
            prefix_keys,
            prefix_values,
            _fold(out, num_kv),
            _fold(lse[..., None], num_kv)[..., 0],
            0.0,
            False,
            scale=ctx.scaling,
        )
        return own[0] + _unfold(prefix[0], queries), own[1], own[2], prefix[1], prefix[2], None


def _fold(tensor: torch.Tensor, num_kv: int) -> torch.Tensor:
    """Return [N, H, C, X] as [1, K, (H / K) N C, X]: the query heads of a key head lie together, no key is repeated."""
    num_branches, num_heads, width, size = tensor.shape
    grouped = tensor.reshape(num_branches, num_kv, num_heads // num_kv, width, size)
    return grouped.permute(1, 2, 0, 3, 4).reshape(1, num_kv, -1, size)


def _unfold(tensor: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Return the inverse of `_fold`, in the shape of `queries` but for the last dimension."""
    num_branches, num_heads, width, _ = queries.shape
    num_kv = tensor.shape[1]
    grouped = tensor.reshape(num_kv, num_heads // num_kv, num_branches, width, -1)
    return grouped.permute(2, 0, 1, 3, 4).reshape(num_branches, num_heads, width, -1)
