"""The learner's ranks as the main loop sees them: one learner, plain calls with a time limit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from floe.cluster.messages import (
    AdapterManifest,
    EqualityReport,
    PromptWithAnswers,
    ScoredGroup,
    StepReport,
    WarmStartBatch,
    WarmStartExample,
    WarmStartReport,
)
from floe.cluster.waits import waits
from floe.configs.errors import ActorsLost, UserError

LOST_RANK_WAIT_S = 5.0  # seconds until the death of a rank is known whose peers have failed


class LearnerLost(ActorsLost):
    """The process of a rank died, and with it the learner's state since the last checkpoint."""


class LearnerHandle:
    """The learner; `ranks` are its actors, by rank. All of them update; rank 0 answers for them."""

    def __init__(self, ranks: Sequence[Any], timeout_s: float) -> None:
        self._ranks = list(ranks)
        self._timeout_s = timeout_s

    def update(
        self, step: int, groups: Sequence[ScoredGroup], supervised: Sequence[WarmStartExample] = ()
    ) -> StepReport:
        """Make the step on every rank; `supervised` are the answers of its supervised term, none without one."""
        stored, answers = ray.put(list(groups)), tuple(supervised)
        refs = [rank.update.remote(step, stored, answers) for rank in self._ranks]
        report: StepReport = self._wait(refs, f"the learner's update of step {step}")
        return report

    def await_idle(self) -> None:
        """Return when no rank is working any more."""
        self._wait([rank.ping.remote() for rank in self._ranks], "the learner to stand still")

    def acquire(self) -> None:
        self._wait([rank.acquire.remote() for rank in self._ranks], "the learner to come back to its device")

    def release(self) -> None:
        self._wait([rank.release.remote() for rank in self._ranks], "the learner to leave its device")

    def export_adapter(self, version: int) -> AdapterManifest:
        what = f"the learner's export of adapter version {version}"
        manifest: AdapterManifest = self._wait([self._ranks[0].export_adapter.remote(version)], what)
        return manifest

    def export_probe(self, version: int) -> AdapterManifest:
        manifest: AdapterManifest = self._wait(
            [self._ranks[0].export_probe.remote(version)], "the learner's export of the probe adapter"
        )
        return manifest

    def canary_logprobs(self, token_ids: Sequence[int], with_adapter: bool) -> list[float]:
        logprobs: list[float] = self._wait(
            [self._ranks[0].canary_logprobs.remote(token_ids, with_adapter)], "the learner's canary"
        )
        return logprobs

    def answer_logprobs(self, text: PromptWithAnswers) -> list[list[float]]:
        """Return [answers][tokens] under the present adapter, at temperature 1."""
        logprobs: list[list[float]] = self._wait([self._ranks[0].answer_logprobs.remote(text)], "the learner's canary")
        return logprobs

    def check_equality(self, texts: Sequence[PromptWithAnswers], limit_s: float) -> EqualityReport:
        """Compare the two. Raises UserError when the learner computes another model than the given one."""
        what = "the learner to compare its way with the model's own"
        report: EqualityReport = self._wait([self._ranks[0].check_equality.remote(texts, limit_s)], what)
        return report

    def save_adapter(self, folder: Path) -> None:
        self._wait([self._ranks[0].save_adapter.remote(folder)], f"the learner to save its adapter to {folder}")

    def save_state(self, folder: Path) -> None:
        """Write every rank's file. Raises OSError when there is no room."""
        self._wait([rank.save_state.remote(folder) for rank in self._ranks], f"saving the optimiser to {folder}")

    def load_state(self, folder: Path) -> None:
        """Read every rank's file. Raises UserError when one is damaged or another learner's."""
        self._wait([rank.load_state.remote(folder) for rank in self._ranks], f"loading the optimiser from {folder}")

    def continue_at(self, num_steps_done: int, rate_factor: float) -> None:
        """Set the position in the learning rate's schedule, and the factor of every later rate."""
        what = "the learner to take its learning rate"
        self._wait([rank.continue_at.remote(num_steps_done, rate_factor) for rank in self._ranks], what)

    def stop(self) -> None:
        _kill(self._ranks)

    def _wait(self, refs: Sequence[Any], what: str) -> Any:
        """Return the answers. Raises WaitTooLong, and LearnerLost when a rank has died."""
        try:
            with waits.on("driver", what, self._timeout_s) as wait:
                try:
                    return wait_for_all(refs, wait.left_s)[0]
                except GetTimeoutError as fault:
                    raise wait.too_long() from fault
        except RayActorError as fault:
            raise _lost(what, fault) from fault
        except RayTaskError as fault:
            if isinstance(fault.cause, UserError | OSError):  # plain, with its number
                raise fault.cause from fault
            if self._has_dead_rank():  # the others fail when they miss it
                raise _lost(what, fault) from fault
            raise

    def _has_dead_rank(self) -> bool:
        if len(self._ranks) == 1:
            return False
        try:
            wait_for_all([rank.ping.remote() for rank in self._ranks], LOST_RANK_WAIT_S)
        except RayActorError:
            return True
        except GetTimeoutError:
            return False  # all are alive, some are busy
        return False


class SupervisedHandle:
    """The warm start's ranks."""

    def __init__(self, ranks: Sequence[Any], timeout_s: float) -> None:
        """Keep the ranks; `timeout_s` limits each batch, and each evaluation."""
        self._ranks = list(ranks)
        self._timeout_s = timeout_s

    def train(
        self,
        examples: Sequence[WarmStartExample],
        held_back: Sequence[WarmStartExample],
        folder: Path,
        checkpoint_dir: Path,
    ) -> Iterator[WarmStartBatch | WarmStartReport]:
        """Yield rank 0's messages as they come.

        Raises what any rank raised, WaitTooLong, and LearnerLost for a dead rank.
        """
        stored = ray.put(list(examples)), ray.put(list(held_back))
        streams: list[Any] = [
            rank.train.options(num_returns="streaming").remote(*stored, folder, checkpoint_dir) for rank in self._ranks
        ]
        first, running = streams[0], list(streams)
        while running:
            with waits.on("driver", "the warm start's next batch", self._timeout_s) as wait:
                ready, _ = ray.wait(running, num_returns=1, timeout=wait.left_s)
                if not ready:
                    raise wait.too_long()
            stream: Any = ready[0]  # Ray's stubs don't know that streams can be waited for
            try:
                report = ray.get(next(stream))
            except StopIteration:
                running.remove(stream)
                continue
            except RayActorError as fault:
                raise _lost("the warm start's next batch", fault) from fault
            except RayTaskError as fault:
                if isinstance(fault.cause, UserError):
                    raise fault.cause from fault
                raise
            if stream is first:
                yield report

    def stop(self) -> None:
        _kill(self._ranks)


def wait_for_all(refs: Sequence[Any], timeout_s: float) -> list[Any]:
    """Return every reference's value. Raises the first fault, because the other ranks would wait for that one for
    ever.
    """
    deadline = time.monotonic() + timeout_s
    waiting = list(refs)
    while waiting:
        ready, waiting = ray.wait(waiting, num_returns=1, timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            raise GetTimeoutError(f"nothing came within {timeout_s:g} s")
        ray.get(ready)
    values: list[Any] = ray.get(list(refs))
    return values


def _lost(what: str, fault: Exception) -> LearnerLost:
    reason = str(fault).strip().splitlines()[0].rstrip(".:")
    return LearnerLost(
        f"the learner died, the driver waiting for {what} ({reason}): go on from the last checkpoint with --resume"
    )


def _kill(handles: Sequence[Any]) -> None:
    for handle in handles:
        ray.kill(handle)
