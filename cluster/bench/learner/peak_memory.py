"""Measures the most memory that a piece of work takes beyond what is held when it starts."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable

import psutil
import torch

GIB = 2**30
SAMPLE_EVERY_S = 0.02


def peak_growth_gib(work: Callable[[], None], device: torch.device) -> float:
    """Run the work and return its peak. On the CPU it is the growth of this process's resident memory, sampled."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / GIB
    _give_back_freed_memory()
    process = psutil.Process()
    before = peak = process.memory_info().rss
    done = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_EVERY_S):
            peak = max(peak, process.memory_info().rss)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        work()
    finally:
        done.set()
        sampler.join()
    return (peak - before) / GIB


def _give_back_freed_memory() -> None:
    """Give freed memory back. Otherwise memory that glibc keeps of earlier work would not show as growth."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
        if trim is not None:
            trim(0)


class ResidentPeak:
    """The most that one process holds in memory while this is open, mapped files included; sampled."""

    def __init__(self, find: Callable[[], psutil.Process | None]) -> None:
        """Sample the process that `find` returns; it is called until there is one."""
        self.num_bytes = 0
        self._find = find
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    @classmethod
    def of_children(cls, title: str) -> ResidentPeak:
        """Watch the process below this one whose command line begins with these words."""
        return cls(lambda: next(filter(lambda one: _is_titled(one, title), psutil.Process().children(True)), None))

    def __enter__(self) -> ResidentPeak:
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._sampler.join()

    def _sample(self) -> None:
        process = None
        while not self._done.wait(SAMPLE_EVERY_S):
            process = process or self._find()
            if process is not None:
                self.num_bytes = max(self.num_bytes, process.memory_info().rss)


def _is_titled(process: psutil.Process, title: str) -> bool:
    try:
        return " ".join(process.cmdline()).startswith(title)
    except psutil.NoSuchProcess:
        return False
