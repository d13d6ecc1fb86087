"""The rollout actors as one: spreads requests, yields each group as soon as it is finished, installs adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError

from cluster.messages import AdapterManifest, AdapterReceipt, GroupRequest, RolloutGroup


class RolloutPool:
    def __init__(self, handles: Sequence[Any], timeout_s: float) -> None:
        self._handles = list(handles)
        self._timeout_s = timeout_s

    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterator[RolloutGroup]:
        """Groups in the order they finish. Raises TimeoutError when none does in time."""
        num_actors = len(self._handles)
        streams = [
            handle.generate.options(num_returns="streaming").remote(list(requests[index::num_actors]), adapter_version)
            for index, handle in enumerate(self._handles)
            if requests[index::num_actors]
        ]
        while streams:
            ready, _ = ray.wait(streams, num_returns=1, timeout=self._timeout_s)
            if not ready:
                raise TimeoutError(f"no rollout actor finished a group within {self._timeout_s:g} s")
            stream: Any = ready[0]  # Ray's stubs don't know that streams can be waited for
            try:
                ref: Any = next(stream)
            except StopIteration:
                streams.remove(stream)
                continue
            yield ray.get(ref)

    def install(self, manifest: AdapterManifest) -> list[AdapterReceipt]:
        """Every actor fetches, installs and proves the adapter. Raises what an actor's proof raised."""
        blob_ref = manifest.blob_ref[0]
        receipts = [handle.install.remote(manifest, blob_ref) for handle in self._handles]
        try:
            return ray.get(receipts, timeout=self._timeout_s)
        except GetTimeoutError as fault:
            raise TimeoutError(
                f"adapter version {manifest.version} was not installed within {self._timeout_s:g} s"
            ) from fault

    def stop(self) -> None:
        for handle in self._handles:
            ray.kill(handle)
