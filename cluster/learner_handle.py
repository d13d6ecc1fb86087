"""The learner's ranks as the main loop sees them: one learner, plain calls with a time limit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError

from cluster.messages import AdapterManifest, ScoredGroup, StepReport, WarmStartExample, WarmStartReport
from cluster.waits import waits


class LearnerHandle:
    """`ranks` are the actors, by rank. All of them update; rank 0 speaks for them."""

    def __init__(self, ranks: Sequence[Any], timeout_s: float) -> None:
        self._ranks = list(ranks)
        self._timeout_s = timeout_s

    def update(self, step: int, groups: Sequence[ScoredGroup]) -> StepReport:
        stored = ray.put(list(groups))
        refs = [rank.update.remote(step, stored) for rank in self._ranks]
        return self._wait(refs, f"the learner's update of step {step}")

    def export_adapter(self, version: int) -> AdapterManifest:
        what = f"the learner's export of adapter version {version}"
        return self._wait([self._ranks[0].export_adapter.remote(version)], what)

    def export_probe(self, version: int) -> AdapterManifest:
        return self._wait([self._ranks[0].export_probe.remote(version)], "the learner's export of the probe adapter")

    def canary_logprobs(self, token_ids: Sequence[int], with_adapter: bool) -> list[float]:
        return self._wait([self._ranks[0].canary_logprobs.remote(token_ids, with_adapter)], "the learner's canary")

    def save_adapter(self, folder: Path) -> None:
        self._wait([self._ranks[0].save_adapter.remote(folder)], f"the learner to save its adapter to {folder}")

    def stop(self) -> None:
        _kill(self._ranks)

    def _wait(self, refs: Sequence[Any], what: str) -> Any:
        """Raises WaitTooLong."""
        with waits.on("driver", what, self._timeout_s) as wait:
            try:
                return wait_for_all(refs, wait.left_s)[0]
            except GetTimeoutError as fault:
                raise wait.too_long() from fault


class SupervisedHandle:
    """The warm start's ranks."""

    def __init__(self, ranks: Sequence[Any], timeout_s: float) -> None:
        """`timeout_s` is for each report."""
        self._ranks = list(ranks)
        self._timeout_s = timeout_s

    def train(
        self,
        examples: Sequence[WarmStartExample],
        held_back: Sequence[WarmStartExample],
        folder: Path,
        checkpoint_dir: Path,
    ) -> Iterator[WarmStartReport]:
        """Rank 0's reports as they come. Raises what any rank raised, and WaitTooLong."""
        stored = ray.put(list(examples)), ray.put(list(held_back))
        streams: list[Any] = [
            rank.train.options(num_returns="streaming").remote(*stored, folder, checkpoint_dir) for rank in self._ranks
        ]
        first, running = streams[0], list(streams)
        while running:
            with waits.on("driver", "the warm start's next evaluation", self._timeout_s) as wait:
                ready, _ = ray.wait(running, num_returns=1, timeout=wait.left_s)
                if not ready:
                    raise wait.too_long()
            stream: Any = ready[0]  # Ray's stubs don't know that streams can be waited for
            try:
                report = ray.get(next(stream))
            except StopIteration:
                running.remove(stream)
                continue
            if stream is first:
                yield report

    def stop(self) -> None:
        _kill(self._ranks)


def wait_for_all(refs: Sequence[Any], timeout_s: float) -> list:
    """Every reference's value. Raises the first fault there is: the other ranks would wait for that one for ever."""
    deadline = time.monotonic() + timeout_s
    waiting = list(refs)
    while waiting:
        ready, waiting = ray.wait(waiting, num_returns=1, timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            raise GetTimeoutError(f"nothing came within {timeout_s:g} s")
        ray.get(ready)
    return ray.get(list(refs))


def _kill(handles: Sequence[Any]) -> None:
    for handle in handles:
        ray.kill(handle)
