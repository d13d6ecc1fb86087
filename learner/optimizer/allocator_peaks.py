"""The most memory that PyTorch's allocator has given out and held on a CUDA device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorPeaks:
    """Largest figures since `forget_peaks`. The context, NCCL and what other processes have are not in them."""

    allocated_bytes: int  # in tensors
    reserved_bytes: int  # and with the blocks that are kept for later tensors

    @classmethod
    def of(cls, device: torch.device) -> Self | None:
        """Return the peaks on a device; None for the CPU, whose memory PyTorch doesn't count."""
        if device.type != "cuda":
            return None
        return cls(
            allocated_bytes=torch.cuda.max_memory_allocated(device),
            reserved_bytes=torch.cuda.max_memory_reserved(device),
        )

    @classmethod
    def fullest(cls, ranks: Iterable[AllocatorPeaks | None]) -> Self | None:
        """Return the largest of each figure over the ranks."""
        known = [one for one in ranks if one is not None]
        if not known:
            return None
        return cls(
            allocated_bytes=max(one.allocated_bytes for one in known),
            reserved_bytes=max(one.reserved_bytes for one in known),
        )


def forget_peaks(device: torch.device) -> None:
    """Let the peaks of a CUDA device count from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
