"""Actors that stand for engines and learners, among them ones that die or stand still; light to import, because every
successor's process imports this."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from floe.cluster.loop.adapter_broadcast import PROBE_VERSION
from floe.cluster.messages import AdapterManifest, AdapterReceipt, GroupRequest, RolloutGroup, ScoredGroup


class Mortal:
    """Ends its process at the first group beyond its lifetime."""

    def __init__(self, groups_per_life: int) -> None:
        self._num_left = groups_per_life

    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterator[RolloutGroup]:
        for one in requests:
            if self._num_left == 0:
                time.sleep(0.2)  # for the group before to be on its way
                os._exit(1)
            self._num_left -= 1
            yield RolloutGroup(
                group_id=one.group_id,
                question=one.question,
                prompt_token_ids=one.prompt_token_ids,
                temperature=one.temperature,
                seed=one.seed,
                completions=(),
            )


class Faulty(Mortal):
    """Its engine raises; the process lives on."""

    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterator[RolloutGroup]:
        raise MemoryError("no room for the KV cache")
        yield


class Stopping(Mortal):
    """Stops answering instead of ending: its process stands still, like one that hangs in a driver or a lock."""

    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterator[RolloutGroup]:
        num_groups = min(self._num_left, len(requests))
        yield from super().generate(requests[:num_groups], adapter_version)
        if num_groups < len(requests):
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGSTOP)

    def install(self, manifest: AdapterManifest, blob: object) -> AdapterReceipt:
        if self._num_left == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        return AdapterReceipt(
            version=manifest.version, num_modules=manifest.num_modules, digest=manifest.slots_digest, install_s=0.0
        )


class Slow(Mortal):
    """Takes its time for each group, and for an answer behind them."""

    def __init__(self, group_s: float) -> None:
        super().__init__(1000)
        self._group_s = group_s

    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterator[RolloutGroup]:
        for group in super().generate(requests, adapter_version):
            time.sleep(self._group_s)
            yield group

    def canary_logprobs(self, token_ids: Sequence[int], adapter_version: int | None) -> list[float]:
        return [0.0] * len(token_ids)


class Exporter:
    """Stands for the learner: puts blobs into the store from a separate process."""

    def __init__(self, put_blob: Callable[[np.ndarray], Any], num_bytes: int) -> None:
        self._put_blob = put_blob
        self._num_bytes = num_bytes

    def export_adapter(self, version: int) -> AdapterManifest:
        return AdapterManifest(
            version=version,
            rank=8,
            alpha=16,
            target_modules=(),
            num_modules=1,
            num_bytes=self._num_bytes,
            digest="",
            slots_digest="",
            blob_ref=self._put_blob(np.zeros(self._num_bytes, dtype=np.uint8)),
        )

    def acquire(self) -> None:
        """Return nothing: it was never away."""

    def release(self) -> None:
        """Do nothing."""

    def export_probe(self, version: int) -> AdapterManifest:
        return self.export_adapter(version)

    def update(self, step: int, groups: Sequence[ScoredGroup], supervised: Sequence[Any] = ()) -> None:
        """Take the groups and ignore them."""

    def canary_logprobs(self, token_ids: Sequence[int], with_adapter: bool) -> list[float]:
        return [0.0] * len(token_ids)


class Receiver:
    """Stands for a rollout actor that takes every adapter; only a probe changes what it computes."""

    def acquire(self) -> list[AdapterReceipt]:
        return []

    def release(self) -> None:
        """Do nothing."""

    def install(self, manifest: AdapterManifest, blob: np.ndarray) -> AdapterReceipt:
        return AdapterReceipt(
            version=manifest.version, num_modules=manifest.num_modules, digest=manifest.slots_digest, install_s=0.0
        )

    def canary_logprobs(self, token_ids: Sequence[int], adapter_version: int | None) -> list[float]:
        return [float(adapter_version == PROBE_VERSION)] * len(token_ids)
