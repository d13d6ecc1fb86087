"""The device that rollout engines and learner share, handed from one to the other by name."""

from __future__ import annotations

from typing import Protocol


class Holder(Protocol):
    """What it gives up, if anything, is its own business (`configs/sections/colocation.py`)."""

    def acquire(self) -> None:
        """Everything it works with is on the device again."""

    def release(self) -> None:
        """It does not work until the next `acquire`."""


class DeviceTurns:
    """Outside of the learner's turn the rollouts hold the device: they did from the start."""

    def __init__(self, rollouts: Holder, learner: Holder) -> None:
        self._rollouts = rollouts
        self._learner = learner

    def to_learner(self) -> None:
        self._rollouts.release()
        self._learner.acquire()

    def to_rollouts(self) -> None:
        """Raises AdapterProofError when an engine that was away lacks an adapter."""
        self._learner.release()
        self._rollouts.acquire()
