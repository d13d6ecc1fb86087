"""The device that rollout engines and learner share, handed from one to the other by name."""

from __future__ import annotations

from typing import Protocol


class Holder(Protocol):
    """One role on the device; it decides itself what it gives up (`configs/sections/colocation.py`)."""

    def acquire(self) -> None:
        """Bring everything that it works with back to the device."""

    def release(self) -> None:
        """Stop working until the next `acquire`."""


class DeviceTurns:
    """Turns on the device: outside the learner's turn the rollouts hold it, as from the start."""

    def __init__(self, rollouts: Holder, learner: Holder) -> None:
        self._rollouts = rollouts
        self._learner = learner

    def to_learner(self) -> None:
        self._rollouts.release()
        self._learner.acquire()

    def to_rollouts(self) -> None:
        """Hand the device to the rollouts. Raises AdapterProofError when an engine that was away lacks an adapter."""
        self._learner.release()
        self._rollouts.acquire()
