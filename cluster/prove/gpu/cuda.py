"""Questions that only a CUDA device can answer, each in a small function."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SYNCHRONISES = "synchronizing CUDA operation"  # PyTorch's own words in its debug mode
SAMPLE_EVERY_S = 0.02


class Synchronisations:
    """How often the host waited for the device."""

    count = 0


@contextmanager
def counted_synchronisations() -> Iterator[Synchronisations]:
    """Count the waits within the block, by PyTorch's debug mode."""
    found = Synchronisations()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
            found.count = sum(SYNCHRONISES in str(one.message) for one in caught)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def used_bytes() -> int:
    """Return what all processes hold of the first visible card, as NVML reports it, which makes no context here."""
    return torch.cuda.device_memory_used(0)


def used_bytes_beside_context() -> int:
    """Return the same as CUDA reports it, without this process's own context, which is made where there is none."""
    free_bytes, total_bytes = torch.cuda.mem_get_info(0)
    return total_bytes - free_bytes


class UsedPeak:
    """The most that is used of the first visible card while this is open, beyond the use when it was made; sampled."""

    def __init__(self, base_bytes: int) -> None:
        self.num_bytes = 0
        self._base_bytes = base_bytes
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> UsedPeak:
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._sampler.join()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_EVERY_S):
            self.num_bytes = max(self.num_bytes, used_bytes() - self._base_bytes)


if __name__ == "__main__":
    if torch.cuda.is_available():
        print(torch.cuda.get_device_name(0))
