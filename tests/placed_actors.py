"""Actors that stand for engines, learner ranks and reward workers, and tell where they are; light to import."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray

from floe.cluster.messages import LearnerRank

EVENTS = "events"  # file in the model's folder


class _Placed:
    def ping(self) -> bool:
        return True

    def place(self) -> tuple[str, tuple[Any, ...]]:
        """Node, and the GPUs of it that Ray gave."""
        return ray.get_runtime_context().get_node_id(), tuple(ray.get_gpu_ids())

    def visible_devices(self) -> str | None:
        return os.environ.get("CUDA_VISIBLE_DEVICES")


class PlacedEngine(_Placed):
    """Leaves its device when every other engine was told to, so that all must be told at once."""

    def __init__(self, config: Any, model_dir: Path, kv_cache_bytes: int | None = None) -> None:
        self._num_engines = config.rollout.num_actors
        self._model_dir = model_dir
        self._kv_cache_bytes = kv_cache_bytes

    def release(self) -> None:
        note(self._model_dir, "engine released")
        await_notes(self._model_dir, "engine released", self._num_engines)

    def acquire(self) -> list:
        note(self._model_dir, "engine acquired")
        return []

    def canary_logprobs(self, token_ids: Sequence[int], adapter_version: int | None) -> Any:
        """Return, in place of log-probabilities, what the tests ask of each actor of a pool."""
        return (*self.place(), self._kv_cache_bytes)


class PlacedRank(_Placed):
    def __init__(self, config: Any, model_dir: Path, *_: Any) -> None:
        self._model_dir = model_dir

    def meeting_point(self, node_address: Callable[[], str]) -> tuple[str, int]:
        return node_address(), 0

    def join(self, rank: LearnerRank) -> None:
        self.rank = rank

    def release(self) -> None:
        note(self._model_dir, "rank released")

    def acquire(self) -> None:
        note(self._model_dir, "rank acquired")

    def update(self, step: int, groups: Sequence[Any], supervised: Sequence[Any] = ()) -> None:
        """Run for as long as a file is missing."""
        await_notes(self._model_dir, "may end", 1)
        note(self._model_dir, "updated")


class PlacedScorer(_Placed):
    def __init__(self, databases_dir: Path, reward: Any, **_: Any) -> None:
        pass


def note(folder: Path, event: str) -> None:
    with (folder / EVENTS).open("a") as file:
        file.write(f"{event}\n")


def notes(folder: Path) -> list[str]:
    path = folder / EVENTS
    return path.read_text().splitlines() if path.exists() else []


def await_notes(folder: Path, event: str, count: int) -> None:
    while notes(folder).count(event) < count:
        time.sleep(0.01)
