"""The rollout actors as one: spreads requests, yields finished groups, installs adapters, replaces lost actors."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, RayError, RayTaskError

from floe.cluster.messages import AdapterManifest, AdapterReceipt, GroupRequest, RolloutGroup
from floe.cluster.waits import acquire, waits
from floe.configs.errors import ActorsLost, AdapterProofError, LostError

MAX_LOSSES_IN_A_ROW = 3  # losses of one actor, without a finished group or an installed adapter between them
MAX_NAMED_QUESTIONS = 5
REPLACEMENT_LIMIT_S = 3600.0  # for another thread's replacement, while nothing of it ends

StartActor = Callable[[int, int], Any]  # number of the actor, and how many it had before; returns one that is ready


class AdapterBlobLost(ActorsLost):
    """The object store's data for the rollout actors died with its owner."""


class RolloutActorLost(LostError):
    """Actors die as fast as they are replaced."""


@dataclass(slots=True)
class _Source:
    """The source of a stream of groups."""

    number: int
    handle: Any
    idle_s: float = 0.0  # waited for it since its last group; time that the consumer took is not counted


class RolloutPool:
    """Pool in which a successor generates a lost actor's unfinished groups again, under the same random streams.

    Lost is what died, and what is stuck: it has finished no group and given no other answer for `stuck_after_s`.
    """

    def __init__(
        self, handles: Sequence[Any], stuck_after_s: float, start_actor: StartActor, num_live_adapters: int
    ) -> None:
        self._handles = list(handles)
        self._stuck_after_s = stuck_after_s
        self._last_group_s = [-math.inf] * len(self._handles)  # by number, the time of its last finished group
        self._start_actor = start_actor
        self._live: deque[AdapterManifest] = deque(maxlen=num_live_adapters)  # adapters that a successor has to hold
        self._newest_receipts: dict[int, AdapterReceipt] = {}  # of successors, by number
        self._replacing = threading.Lock()  # one thread may generate while another installs
        self._num_losses_in_a_row: Counter[int] = Counter()  # by number
        self.num_replaced = 0

    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterator[RolloutGroup]:
        """Yield groups in the order they finish, each once. Raises AdapterProofError and RolloutActorLost."""
        unfinished = [
            {request.group_id: request for request in requests[number :: len(self._handles)]}
            for number in range(len(self._handles))
        ]
        streams: dict[Any, _Source] = {}

        def start(number: int) -> None:
            if unfinished[number]:
                handle = self._handles[number]
                stream = handle.generate.options(num_returns="streaming")
                streams[stream.remote(list(unfinished[number].values()), adapter_version)] = _Source(number, handle)

        for number in range(len(self._handles)):
            start(number)
        while streams:
            stream: Any = self._await_one(streams)
            source = streams[stream]
            number = source.number
            try:
                if source.idle_s >= self._stuck_after_s:
                    raise GetTimeoutError(f"it finished no group in {self._stuck_after_s:g} s")
                group = ray.get(next(stream), timeout=self._stuck_after_s)
            except StopIteration:
                del streams[stream]
                if unfinished[number]:
                    raise RuntimeError(f"rollout actor {number} left {len(unfinished[number])} groups out") from None
                continue
            except RayError as fault:
                del streams[stream]
                try:
                    self._replace(number, source.handle, fault)
                except RolloutActorLost as loss:
                    loss.add_note(f"questions: {_names(list(unfinished[number].values()))}")
                    raise
                start(number)
                continue
            self._last_group_s[number] = time.monotonic()
            self._num_losses_in_a_row[number] = 0
            del unfinished[number][group.group_id]
            yield group

    def install(self, manifest: AdapterManifest) -> list[AdapterReceipt]:
        """Have every actor fetch, install and prove the adapter. Raises AdapterProofError and RolloutActorLost."""
        self._live.append(manifest)
        handles = list(self._handles)
        refs = [_install(handle, manifest) for handle in handles]
        receipts = []
        for number, ref in enumerate(refs):
            try:
                receipts.append(self._answer(number, ref, f"install adapter version {manifest.version}"))
            except RayError as fault:
                receipts.append(self._replace(number, handles[number], fault))
        self._num_losses_in_a_row.clear()
        proved = [receipt for receipt in receipts if receipt is not None]
        for receipt in proved:
            _check_receipt(manifest, receipt)
        return proved

    def release(self) -> None:
        """Release every engine: none works until `acquire`."""
        self._each(lambda handle: handle.release.remote(), "leave its device")

    def acquire(self) -> None:
        """Wake every engine. Raises AdapterProofError when one that was away doesn't hold what was installed."""
        live = {manifest.version: manifest for manifest in self._live}
        for receipts in self._each(lambda handle: handle.acquire.remote(), "come back to its device"):
            for receipt in receipts:
                if receipt.version in live:
                    _check_receipt(live[receipt.version], receipt)

    def live_manifests(self) -> tuple[AdapterManifest, ...]:
        """Return the manifests of the installed versions, the oldest first."""
        return tuple(self._live)

    def canary_logprobs(self, token_ids: Sequence[int], adapter_version: int | None) -> list[list[float]]:
        """Return every actor's, of a text's tokens but the first. Call it when nothing is being generated."""
        return self._each(
            lambda handle: handle.canary_logprobs.remote(token_ids, adapter_version), "compute the canary"
        )

    def canary_groups(self, request: GroupRequest, adapter_version: int | None) -> list[RolloutGroup]:
        """Return every actor's group of one request. Call it when nothing is being generated."""
        return self._each(lambda handle: handle.canary_group.remote(request, adapter_version), "generate the canary")

    def stop(self) -> None:
        for handle in self._handles:
            ray.kill(handle)

    def _each(self, call: Callable[[Any], Any], what: str) -> list[Any]:
        """Return every actor's answer to a call that all get at once; a successor answers for a lost actor."""
        asked = [(handle, call(handle)) for handle in self._handles]
        results = []
        for number, (handle, ref) in enumerate(asked):
            while True:
                try:
                    results.append(self._answer(number, ref, what))
                    break
                except RayError as fault:
                    self._replace(number, handle, fault)
                    handle = self._handles[number]
                    ref = call(handle)
        return results

    def _await_one(self, streams: Mapping[Any, _Source]) -> Any:
        """Return a stream that has something, or one that is stuck."""
        numbers = ", ".join(str(number) for number in sorted(source.number for source in streams.values()))
        while True:
            # One that seems stuck is asked alone, because the others may always have something.
            seem_stuck = [stream for stream, source in streams.items() if source.idle_s >= self._stuck_after_s]
            left_s = self._stuck_after_s - max(source.idle_s for source in streams.values())
            started_s = time.monotonic()
            with waits.on("driver", f"the next group of rollout actor {numbers}", self._stuck_after_s):
                ready, _ = ray.wait(seem_stuck or list(streams), num_returns=1, timeout=max(0.0, left_s))
            waited_s = time.monotonic() - started_s
            for source in streams.values():
                source.idle_s += waited_s
            if ready:
                streams[ready[0]].idle_s = 0.0
                return ready[0]
            if seem_stuck:
                return seem_stuck[0]

    def _answer(self, number: int, ref: Any, what: str) -> Any:
        """Return the answer. Raises RayError. An actor that is generating groups meanwhile is not stuck."""
        started_s = time.monotonic()
        with waits.on("driver", f"rollout actor {number} to {what}", self._stuck_after_s):
            while True:
                since_s = max(started_s, self._last_group_s[number])
                try:
                    return ray.get(ref, timeout=max(0.0, since_s + self._stuck_after_s - time.monotonic()))
                except GetTimeoutError:
                    if self._last_group_s[number] <= since_s:
                        raise GetTimeoutError(f"it did not {what} in {self._stuck_after_s:g} s") from None

    def _replace(self, number: int, lost: Any, fault: RayError) -> AdapterReceipt | None:
        """Replace `lost` by a successor, which holds the live adapters; return the newest version's receipt."""
        _raise_unless_lost(fault)
        with waits.behind("driver", f"a successor of rollout actor {number}", REPLACEMENT_LIMIT_S) as wait:
            acquire(self._replacing, wait)
        try:
            # otherwise another thread has met the loss too, and has replaced it already
            while self._handles[number] is lost:
                ray.kill(lost)  # an engine that failed or is stuck holds its memory
                self._count_loss(number, fault)
                self._handles[number] = handle = self._start_actor(number, self.num_replaced)
                try:
                    for manifest in tuple(self._live):
                        what = f"install adapter version {manifest.version}"
                        self._newest_receipts[number] = self._answer(number, _install(handle, manifest), what)
                except RayError as again:
                    _raise_unless_lost(again)
                    lost, fault = handle, again
            return self._newest_receipts.get(number)
        finally:
            self._replacing.release()

    def _count_loss(self, number: int, fault: RayError) -> None:
        self.num_replaced += 1
        self._num_losses_in_a_row[number] += 1
        if self._num_losses_in_a_row[number] > MAX_LOSSES_IN_A_ROW:
            raise RolloutActorLost(
                f"rollout actor {number} was lost {self._num_losses_in_a_row[number]} times in a row, at last to this: "
                f"{_cause(fault)}; free memory or see Ray's logs, and start the run again"
            ) from fault


def _names(requests: Sequence[GroupRequest]) -> str:
    """Return the names of the questions that a lost actor was working on."""
    shown = ", ".join(request.question.question_id for request in requests[:MAX_NAMED_QUESTIONS])
    more = len(requests) - MAX_NAMED_QUESTIONS
    return f"{shown} and {more} more" if more > 0 else shown


def _install(handle: Any, manifest: AdapterManifest) -> Any:
    # Without the reference in the manifest, because Ray counts every reference that is sent inside a value.
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
    """Raise a failed proof, which would fail again, and a lost blob; any other fault ends with the engine."""
    cause = getattr(fault, "cause", None)
    if isinstance(cause, ObjectLostError):
        raise AdapterBlobLost(
            "An adapter's blob is lost with the learner that exported it: go on from the last checkpoint with --resume."
        ) from fault
    if isinstance(fault, RayTaskError) and isinstance(cause, AdapterProofError):
        raise cause from fault


def _cause(fault: RayError) -> str:
    """Return the last line of the fault that says something."""
    lines = [line.strip() for line in str(getattr(fault, "cause", None) or fault).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(fault).__name__
