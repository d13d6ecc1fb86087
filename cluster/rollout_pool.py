"""The rollout actors as one: spreads requests, yields each group as soon as it is finished, installs adapters, and
replaces an actor that is lost."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from cluster.messages import AdapterManifest, AdapterReceipt, GroupRequest, RolloutGroup
from configs.errors import AdapterProofError, LostError

MAX_LOSSES_IN_A_ROW = 3  # of one actor, without a finished group or an installed adapter between them

StartActor = Callable[[int, int], Any]  # number of the actor, and how many it had before; returns one that is ready


class RolloutActorLost(LostError):
    """Actors die as fast as they are replaced."""


class RolloutPool:
    """A lost actor's unfinished groups are generated again by its successor, under the same random streams."""

    def __init__(
        self, handles: Sequence[Any], timeout_s: float, start_actor: StartActor, num_live_adapters: int
    ) -> None:
        self._handles = list(handles)
        self._timeout_s = timeout_s
        self._start_actor = start_actor
        self._live: deque[AdapterManifest] = deque(maxlen=num_live_adapters)  # what a successor has to hold
        self._newest_receipts: dict[int, AdapterReceipt] = {}  # of successors, by number
        self._replacing = threading.Lock()  # one thread may generate while another installs
        self._num_losses_in_a_row: Counter[int] = Counter()  # by number
        self.num_replaced = 0

    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterator[RolloutGroup]:
        """Groups in the order they finish, each once.

        Raises TimeoutError when none finishes in time, AdapterProofError, and RolloutActorLost.
        """
        unfinished = [
            {request.seed: request for request in requests[number :: len(self._handles)]}
            for number in range(len(self._handles))
        ]
        streams: dict[Any, tuple[int, Any]] = {}  # the actor's number and the actor

        def start(number: int) -> None:
            if unfinished[number]:
                handle = self._handles[number]
                stream = handle.generate.options(num_returns="streaming")
                streams[stream.remote(list(unfinished[number].values()), adapter_version)] = number, handle

        for number in range(len(self._handles)):
            start(number)
        while streams:
            ready, _ = ray.wait(list(streams), num_returns=1, timeout=self._timeout_s)
            if not ready:
                raise TimeoutError(f"no rollout actor finished a group within {self._timeout_s:g} s")
            stream: Any = ready[0]  # Ray's stubs don't know that streams can be waited for
            try:
                ref: Any = next(stream)
                group = ray.get(ref)
            except StopIteration:
                number, _ = streams.pop(stream)
                if unfinished[number]:
                    raise RuntimeError(f"rollout actor {number} left {len(unfinished[number])} groups out") from None
                continue
            except RayError as fault:
                number, lost = streams.pop(stream)
                self._replace(number, lost, fault)
                start(number)
                continue
            number, _ = streams[stream]
            self._num_losses_in_a_row[number] = 0
            del unfinished[number][group.seed]
            yield group

    def install(self, manifest: AdapterManifest) -> list[AdapterReceipt]:
        """Every actor fetches, installs and proves the adapter. Raises AdapterProofError, TimeoutError and
        RolloutActorLost."""
        self._live.append(manifest)
        handles = list(self._handles)
        refs = [_install(handle, manifest) for handle in handles]
        receipts = []
        for number, ref in enumerate(refs):
            try:
                receipts.append(ray.get(ref, timeout=self._timeout_s))
            except GetTimeoutError as fault:
                raise TimeoutError(
                    f"adapter version {manifest.version} was not installed within {self._timeout_s:g} s"
                ) from fault
            except RayError as fault:
                receipts.append(self._replace(number, handles[number], fault))
        self._num_losses_in_a_row.clear()
        proved = [receipt for receipt in receipts if receipt is not None]
        for receipt in proved:
            _check_receipt(manifest, receipt)
        return proved

    def live_manifests(self) -> tuple[AdapterManifest, ...]:
        """Of the installed versions, the oldest first."""
        return tuple(self._live)

    def canary_logprobs(self, token_ids: Sequence[int], adapter_version: int | None) -> list[list[float]]:
        """Every actor's, of a text's tokens but the first; for when nothing is being generated."""
        results = []
        for number in range(len(self._handles)):
            while True:
                handle = self._handles[number]
                try:
                    ref = handle.canary_logprobs.remote(token_ids, adapter_version)
                    results.append(ray.get(ref, timeout=self._timeout_s))
                    break
                except GetTimeoutError as fault:
                    raise TimeoutError(f"rollout actor {number} did not answer in {self._timeout_s:g} s") from fault
                except RayError as fault:
                    self._replace(number, handle, fault)
        return results

    def stop(self) -> None:
        for handle in self._handles:
            ray.kill(handle)

    def _replace(self, number: int, lost: Any, fault: RayError) -> AdapterReceipt | None:
        """Has a successor, which holds the live adapters, in the place of `lost`; the receipt is the newest one's."""
        _raise_unless_lost(fault)
        with self._replacing:
            while self._handles[number] is lost:  # else another thread has met the loss too, and was here before
                self._count_loss(number, fault)
                ray.kill(lost)  # an engine that failed may still hold its memory
                self._handles[number] = handle = self._start_actor(number, self.num_replaced)
                try:
                    for manifest in tuple(self._live):
                        receipt = ray.get(_install(handle, manifest), timeout=self._timeout_s)
                        self._newest_receipts[number] = receipt
                except RayError as again:
                    _raise_unless_lost(again)
                    lost, fault = handle, again
            return self._newest_receipts.get(number)

    def _count_loss(self, number: int, fault: RayError) -> None:
        self.num_replaced += 1
        self._num_losses_in_a_row[number] += 1
        if self._num_losses_in_a_row[number] > MAX_LOSSES_IN_A_ROW:
            raise RolloutActorLost(
                f"rollout actor {number} was lost {self._num_losses_in_a_row[number]} times in a row, at last to this: "
                f"{_cause(fault)}; free memory or see Ray's logs, and start the run again"
            ) from fault


def _install(handle: Any, manifest: AdapterManifest) -> Any:
    # Without the reference in the manifest: Ray keeps books on every reference that travels inside a value.
    return handle.install.remote(replace(manifest, blob_ref=None), manifest.blob_ref[0])


def _check_receipt(manifest: AdapterManifest, receipt: AdapterReceipt) -> None:
    expected = manifest.version, manifest.num_modules, manifest.slots_digest
    found = receipt.version, receipt.num_modules, receipt.digest
    if found != expected:
        raise AdapterProofError(
            f"adapter version {manifest.version}: the receipt is for version {receipt.version}, {receipt.num_modules} "
            f"modules and slots {receipt.digest[:12]}, expected were {manifest.num_modules} modules and slots "
            f"{manifest.slots_digest[:12]}"
        )


def _raise_unless_lost(fault: RayError) -> None:
    """A proof that failed would fail again; any other fault of an engine ends with the engine."""
    cause = getattr(fault, "cause", None)
    if isinstance(fault, RayTaskError) and isinstance(cause, AdapterProofError):
        raise cause from fault


def _cause(fault: RayError) -> str:
    """Its last line that says something."""
    lines = [line.strip() for line in str(getattr(fault, "cause", None) or fault).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(fault).__name__
