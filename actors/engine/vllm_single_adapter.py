"""Replaces vLLM's per-token LoRA gather on CPU by plain matmuls when a whole batch uses one adapter.

Upstream fault: `vllm/lora/ops/torch_ops/lora_ops.py` gathers one copy of the adapter per token
(`lora_weights[lora_indices]`), which more than doubles the time of a decode step. In GRPO every sequence of a batch
uses the same adapter, so one matmul per slice does. A batch of the base model needs nothing at all, where upstream
gathers all the same. Batches of mixed versions take vLLM's own path. Applies to the versions in `KNOWN_VERSIONS`; any
other keeps the stock path.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
import vllm
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from floe.actors.engine.vllm_lone_row import add_product, pair, product

KNOWN_VERSIONS = ("0.32.0",)

logger = logging.getLogger(__name__)


def install_single_adapter_path() -> bool:
    """Patch the CPU wrapper of this process. Returns whether it was patched (False keeps the stock path)."""
    version = vllm.__version__.split("+")[0]
    if version not in KNOWN_VERSIONS:
        logger.warning("vLLM %s is not known to the single-adapter path: the stock LoRA path is used", version)
        return False
    if PunicaWrapperCPU.add_lora_linear is not _add_lora_linear:
        PunicaWrapperCPU.update_metadata = _update_metadata
        PunicaWrapperCPU.add_lora_linear = _add_lora_linear
        PunicaWrapperCPU.add_lora_logits = _add_lora_logits
    return True


_stock_update_metadata = PunicaWrapperCPU.update_metadata
_stock_add_lora_linear = PunicaWrapperCPU.add_lora_linear
_stock_add_lora_logits = PunicaWrapperCPU.add_lora_logits


def _update_metadata(
    self: Any, mapping: Any, lora_index_to_id: list[int | None], max_loras: int, vocab_size: int, **kwargs: Any
) -> None:
    _stock_update_metadata(self, mapping, lora_index_to_id, max_loras, vocab_size, **kwargs)
    ids = set(mapping.index_mapping)
    self.is_base_only = ids == {0}
    only = ids.pop() if len(ids) == 1 else 0
    self.single_slot = lora_index_to_id.index(only) if only > 0 else None


def _add_lora_linear(
    self: Any,
    y: torch.Tensor,
    x: torch.Tensor,
    lora_a_stacked: tuple[torch.Tensor, ...],
    lora_b_stacked: tuple[torch.Tensor, ...],
    scale: float,
    output_slices: tuple[int, ...],
    *,
    buffer: Any = None,
    **kwargs: Any,
) -> None:
    if getattr(self, "is_base_only", False):
        return
    slot = getattr(self, "single_slot", None)
    if slot is None or buffer is not None:
        _stock_add_lora_linear(
            self, y, x, lora_a_stacked, lora_b_stacked, scale, output_slices, buffer=buffer, **kwargs
        )
        return
    rows = x.view(-1, x.shape[-1])
    out = y.view(-1, y.shape[-1])
    if len(rows) == 1:
        whole = pair(out)
        _add_slices(whole, pair(rows), slot, lora_a_stacked, lora_b_stacked, scale, output_slices)
        out.copy_(whole[:1])
    else:
        _add_slices(out, rows, slot, lora_a_stacked, lora_b_stacked, scale, output_slices)


def _add_slices(
    out: torch.Tensor,
    rows: torch.Tensor,
    slot: int,
    lora_a_stacked: tuple[torch.Tensor, ...],
    lora_b_stacked: tuple[torch.Tensor, ...],
    scale: float,
    output_slices: tuple[int, ...],
) -> None:
    offset = 0
    for lora_a, lora_b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
        shrunk = product(rows, lora_a[slot, 0])
        if scale != 1.0:
            shrunk = shrunk * scale
        add_product(out[:, offset : offset + width], shrunk, lora_b[slot, 0])
        offset += width


def _add_lora_logits(
    self: Any,
    y: torch.Tensor,
    x: torch.Tensor,
    lora_a_stacked: torch.Tensor,
    lora_b_stacked: torch.Tensor,
    scale: float,
    *,
    buffer: Any = None,
    **kwargs: Any,
) -> None:
    # Upstream gathers a vocabulary-sized B per sequence even when the adapter leaves the LM head alone.
    slot = getattr(self, "single_slot", None)
    if getattr(self, "is_base_only", False) or (slot is not None and not lora_a_stacked[slot].any()):
        return
    _stock_add_lora_logits(self, y, x, lora_a_stacked, lora_b_stacked, scale, buffer=buffer, **kwargs)
