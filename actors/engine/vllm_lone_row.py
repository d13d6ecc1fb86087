"""Gives a candidate the same bits alone as in company, on CPU.

Kernels round a row by how many others there are: MKL's (PyTorch's own products in float32) at most numbers of rows,
oneDNN's at one row. So the log-probabilities of a candidate would depend on what is generated at the same time. A group
that is generated again after the loss of an actor would not be the same to the bit. Therefore products in float32 are
oneDNN's, and a lone row is computed as two. (Attention would differ too, if it split few sequences over the threads;
the engine's environment turns that off.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Linear = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


def leave_amx_out() -> None:
    """Keep vLLM in this process from its AMX kernels, which round a row by how many others there are.

    Those are sgl-kernel's products of small weights (another kernel above four rows) and attention's. oneDNN's AMX
    products do the same; the engine's environment caps its instruction set. Call it before the engine is made.
    """
    torch.cpu._is_amx_tile_supported = lambda: False


def compute_lone_rows_in_pairs(model: torch.nn.Module) -> int:
    """Wrap every linear layer that vLLM has given a CPU kernel; return how many."""
    layers = [layer for layer in model.modules() if hasattr(layer, "cpu_linear")]
    for layer in layers:
        layer.cpu_linear = _in_pairs(layer.cpu_linear)  # type: ignore[assignment, arg-type]
    return len(layers)


def product(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return rows [m, k] times weight [n, k] transposed, [m, n]; m must be over 1.

    In bfloat16 PyTorch takes oneDNN itself, where the processor has instructions for it.
    """
    if rows.dtype is torch.float32:
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, None, "none", [], "")
        return out
    return torch.mm(rows, weight.t())


def add_product(out: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor) -> None:
    """Add `product(rows, weight)` to `out` [m, n], in bfloat16 with one rounding, as the learner does."""
    if rows.dtype is torch.float32:
        out += product(rows, weight)
    else:
        out.addmm_(rows, weight.t())


def pair(row: torch.Tensor) -> torch.Tensor:
    """Return [2, n], twice the row [1, n]."""
    return row.repeat(2, 1)


def _in_pairs(linear: Linear) -> Linear:
    def paired(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if x.numel() != x.shape[-1]:  # [m, k], or [1, m, k] in models that vLLM runs by transformers' code
            return linear(x, weight, bias)
        return linear(pair(x.view(1, -1)), weight, bias)[:1].view(*x.shape[:-1], -1)

    return paired
