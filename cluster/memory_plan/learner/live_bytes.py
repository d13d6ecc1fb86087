"""Counts the bytes of all tensors that are alive while a piece of work runs, whether they have memory or not."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA_BLOCK_BYTES = 512  # PyTorch's allocator on a GPU rounds every request up to it


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages that operations under it have made and that still exist, and the most at one time."""

    def __init__(self, before: Iterable[torch.Tensor], block_bytes: int = 1) -> None:
        """Start counting. `before` are tensors that don't count; a storage takes whole blocks of `block_bytes`."""
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's has no types
        self.num_bytes = 0
        self.peak_bytes = 0
        self._block_bytes = block_bytes
        self._before = {one.untyped_storage()._cdata for one in before}
        self._living: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, torch.Tensor):
                self._note(one.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._before or key in self._living:
            return
        num_bytes = -(-storage.nbytes() // self._block_bytes) * self._block_bytes

        def gone(_: object) -> None:
            if self._living.pop(key, None) is not None:
                self.num_bytes -= num_bytes

        self._living[key] = weakref.ref(storage, gone)
        self.num_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self.num_bytes)
