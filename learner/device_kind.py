"""Kind of device that a computation is sized for: how much it does at once, and by which kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

CPU, GPU = "cpu", "cuda"

_asked_for: ContextVar[str | None] = ContextVar("device_kind", default=None)


def device_kind(device: torch.device) -> str:
    """Return the kind, CPU or GPU, for tensors on `device`; those without data (`meta`) count as a GPU's."""
    return _asked_for.get() or (CPU if device.type == "cpu" else GPU)


@contextmanager
def decisions_for(kind: str) -> Iterator[None]:
    """Decide as for a device of this kind, wherever the tensors are, to count and check a GPU's way without one."""
    token = _asked_for.set(kind)
    try:
        yield
    finally:
        _asked_for.reset(token)
