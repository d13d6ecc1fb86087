"""Ctrl-C while a run trains: the first lets the step end, the second leaves at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from configs.errors import Interrupted


class StopRequest:
    """Within the block, SIGINT is noted; outside of it Python's own way holds.

    Only a process's main thread can take signals; in another thread nothing changes.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self.is_made = False
        self._note = note
        self._before: Any = None

    def end_if_made(self, step: int) -> None:
        """Call it after `step` is safe. Raises Interrupted."""
        if self.is_made:
            raise Interrupted(f"stopped after step {step}")

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.is_made:
            raise KeyboardInterrupt
        self.is_made = True
        self._note("stopping after this step; Ctrl-C again leaves at once, without it")
