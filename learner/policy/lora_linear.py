"""Linear layer with LoRA whose products add into each other, where PEFT makes a tensor for each operation.

PEFT computes `base + B(A(x)) * scaling`: a product, a scaling and a sum of the whole output's size, and the same again
backward. Here the scaling is applied to the [T, rank] part, and the second product adds into the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear

from floe.learner.custom_gradient import applied


def join_lora_products(module: torch.nn.Module) -> int:
    """Give every LoRA layer of `module` the joined products; return the number of layers."""
    layers = [layer for layer in module.modules() if isinstance(layer, Linear)]
    for layer in layers:
        layer.forward = partial(_forward, layer, layer.forward)  # type: ignore[method-assign]
    return len(layers)


def _is_joined(layer: torch.nn.Module) -> bool:
    return isinstance(layer, Linear) and "forward" in vars(layer)


@contextmanager
def stock_lora_products(module: torch.nn.Module) -> Iterator[None]:
    """Use PEFT's own products again within the block."""
    joined = [(layer, layer.__dict__.pop("forward")) for layer in module.modules() if _is_joined(layer)]
    try:
        yield
    finally:
        for layer, forward in joined:
            layer.forward = forward


def _forward(layer: Any, stock: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    # PEFT still computes the base model's own output, merged weights, and kinds of LoRA that are not plain.
    if layer.disable_adapters or layer.merged or len(names) != 1 or names[0] in layer.lora_variant:
        return stock(x)
    (name,) = names
    lora_a, lora_b = layer.lora_A[name].weight, layer.lora_B[name].weight
    base = layer.base_layer
    if not lora_a.dtype == lora_b.dtype == x.dtype == base.weight.dtype:
        return stock(x)
    dropped = layer.lora_dropout[name](x)  # `x` itself where there is no dropout
    out = applied(_LoraLinear, x, dropped, dropped is not x, base.weight, lora_a, lora_b, layer.scaling[name])
    return out if base.bias is None else out + base.bias


class _LoraLinear(torch.autograd.Function):
    """x W^T + s d A^T B^T for a frozen W [out, in] and trained A [rank, in] and B [out, rank].

    d is x where `is_dropped` is false; the gradient of d is then added to that of x.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        dropped: torch.Tensor,
        is_dropped: bool,
        weight: torch.Tensor,
        lora_a: torch.Tensor,
        lora_b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        dropped_rows = dropped.reshape(rows.shape) if is_dropped else rows
        shrunk = torch.mm(dropped_rows, lora_a.t()).mul_(scaling)
        out = torch.mm(rows, weight.t()).addmm_(shrunk, lora_b.t())
        ctx.save_for_backward(dropped_rows, shrunk, weight, lora_a, lora_b)
        ctx.scaling, ctx.is_dropped, ctx.shape = scaling, is_dropped, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dropped_rows, shrunk, weight, lora_a, lora_b = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        of_shrunk = torch.mm(rows, lora_b).mul_(ctx.scaling)
        of_a = torch.mm(of_shrunk.t(), dropped_rows) if ctx.needs_input_grad[4] else None
        of_b = torch.mm(rows.t(), shrunk) if ctx.needs_input_grad[5] else None
        of_x = of_dropped = None
        if ctx.needs_input_grad[0]:
            of_x = torch.mm(rows, weight)
            if not ctx.is_dropped:
                of_x.addmm_(of_shrunk, lora_a)
            of_x = of_x.view(ctx.shape)
        if ctx.is_dropped and ctx.needs_input_grad[1]:
            of_dropped = torch.mm(of_shrunk, lora_a).view(ctx.shape)
        return of_x, of_dropped, None, None, of_a, of_b, None
