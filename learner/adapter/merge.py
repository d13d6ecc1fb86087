"""Folds a LoRA adapter into the weights that it adapts (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

PEFT_PREFIX = "base_model.model."
LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, slots=True)
class LoraPair:
    """One module's part of an adapter, and `scaling`, which is alpha / rank."""

    lora_a: torch.Tensor  # [rank, in]
    lora_b: torch.Tensor  # [out, rank]
    scaling: float


def pairs_by_weight(tensors: Mapping[str, torch.Tensor], rank: int, alpha: int) -> dict[str, LoraPair]:
    """Return an adapter's tensors, under PEFT's names, by the name of the base's weight that each pair adapts.

    Raises ValueError for a tensor that is not half of a pair, is of another rank, or does not hold plain finite
    numbers.
    """
    stems = {name.removesuffix(LORA_A).removesuffix(LORA_B) for name in tensors}
    wanted = {stem + half for stem in stems for half in (LORA_A, LORA_B)}
    if odd := sorted(wanted ^ tensors.keys()):
        raise ValueError(f"{odd[0]} is not one of a pair of LoRA matrices")
    if others := sorted(stem for stem in stems if not stem.startswith(PEFT_PREFIX)):
        raise ValueError(f"{others[0]} does not begin with {PEFT_PREFIX}")
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or tensor.shape[0 if name.endswith(LORA_A) else 1] != rank:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, which is not of rank {rank}")
        if not is_plain_float(tensor) or not tensor.isfinite().all():
            raise ValueError(f"{name} does not hold finite numbers of type float32, bfloat16 or float16")
    scaling = alpha / rank
    return {
        stem.removeprefix(PEFT_PREFIX) + ".weight": LoraPair(tensors[stem + LORA_A], tensors[stem + LORA_B], scaling)
        for stem in sorted(stems)
    }


def merged_weight(weight: torch.Tensor, pair: LoraPair) -> torch.Tensor:
    """Return `weight + scaling * B @ A` (Hu et al. 2021, arXiv 2106.09685, section 4.1), [out, in].

    Computed in float32 and rounded once, to bfloat16. Raises ValueError for a weight of another shape, for one that is
    quantized, and for a sum that is not finite.
    """
    adapted = (pair.lora_b.shape[0], pair.lora_a.shape[1])
    if weight.shape != adapted:
        raise ValueError(f"it has shape {tuple(weight.shape)}, the adapter is for {adapted}")
    if not is_plain_float(weight):
        raise ValueError(f"it is of type {weight.dtype}, not float32, bfloat16 or float16")
    change = pair.scaling * (pair.lora_b.float() @ pair.lora_a.float())
    merged = (weight.float() + change).bfloat16()
    if not merged.isfinite().all():
        raise ValueError("the sum has numbers that are not finite")
    return merged


def is_plain_float(tensor: torch.Tensor) -> bool:
    return tensor.dtype in (torch.float32, torch.bfloat16, torch.float16)
