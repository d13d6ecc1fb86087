"""Decides when a step's groups are generated: in turn with the updates, or ahead of them within a bound."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Protocol

from floe.cluster.loop.group_collection import Collected
from floe.cluster.waits import acquire, waits

CollectStep = Callable[[int, int], Collected]  # the step, and the adapter version that generates it


class Generation(Protocol):
    def take(self, step: int) -> Collected:
        """Return the groups of `step`; steps are taken in their order."""

    def note_published(self, version: int) -> None: ...

    def learners_turn(self) -> AbstractContextManager[None]:
        """Hold this while the learner computes."""

    def halt(self) -> None:
        """Return when nothing is being generated; groups that nobody has taken yet are dropped."""

    def begin_anew(self, version: int) -> None:
        """Go on with the step after `version`, with no older version than this."""


class InTurn:
    """Staleness 0: step k is generated with version k - 1, when it is taken."""

    def __init__(self, collect: CollectStep) -> None:
        self._collect = collect

    def take(self, step: int) -> Collected:
        started_s = time.perf_counter()
        collected = self._collect(step, step - 1)
        waited_s = time.perf_counter() - started_s
        return replace(collected, learner_waited_s=waited_s)

    def note_published(self, version: int) -> None:
        """Do nothing: the next step finds the version installed."""

    @contextmanager
    def learners_turn(self) -> Iterator[None]:
        yield

    def halt(self) -> None:
        """Do nothing: nothing is generated between two steps."""

    def begin_anew(self, version: int) -> None:
        """Do nothing: the next step is generated with the newest version anyway."""

    def close(self) -> None:
        """Do nothing: nothing is running."""


class Ahead:
    """Step k is generated with version k - 1 - `max_staleness` (0 at first), as soon as that is published.

    Exactly that version and not the newest: otherwise the version would depend on the machine's load, and no run would
    repeat another. So the bound holds by construction, and at most `max_staleness` steps wait to be taken. With
    `in_turns`, for machines without spare cores, generation and learner don't compute at the same time. `first_step` is
    above 1 in a run that continues from a checkpoint; the versions that its first steps need are installed by then.

    After a roll-back the steps begin anew, as at the run's start: no group of an abandoned policy is learned from, and
    the first steps are all generated with the version that the roll-back published, the `oldest_version` from there on.
    """

    def __init__(
        self,
        collect: CollectStep,
        *,
        num_steps: int,
        max_staleness: int,
        in_turns: bool,
        timeout_s: float,
        first_step: int = 1,
        oldest_version: int = 0,
    ) -> None:
        """Start the thread. `timeout_s` limits what the other side does while none of its own waits ends."""
        self._collect = collect
        self._timeout_s = timeout_s
        self._num_steps = num_steps
        self._max_staleness = max_staleness
        self._turn = threading.Lock() if in_turns else None
        self._changed = threading.Condition()
        self._ready: deque[tuple[int, Collected, float]] = deque()  # version, groups, seconds waited for the version
        self._fault: BaseException | None = None
        self._start(first_step, first_step - 1, oldest_version)

    def _start(self, first_step: int, published: int, oldest_version: int) -> None:
        self._first_step, self._published, self._oldest_version = first_step, published, oldest_version
        self._is_closed, self._is_running = False, True
        threading.Thread(target=self._run, name="generation", daemon=True).start()

    def take(self, step: int) -> Collected:
        """Return the groups. Raises what generating raised, and WaitTooLong."""
        started_s = time.perf_counter()
        with self._changed:
            self._await("learner", f"the groups of step {step}", lambda: self._ready or self._fault is not None)
            if not self._ready:
                assert self._fault is not None
                raise self._fault
            version, collected, rollouts_waited_s = self._ready.popleft()
            num_behind = len(self._ready)
        assert step - 1 - version <= self._max_staleness
        return replace(
            collected,
            learner_waited_s=time.perf_counter() - started_s,
            rollouts_waited_s=rollouts_waited_s,
            ready_steps=num_behind,
        )

    def note_published(self, version: int) -> None:
        with self._changed:
            self._published = version
            self._changed.notify_all()

    @contextmanager
    def learners_turn(self) -> Iterator[None]:
        with self._turn_of("learner"):
            yield

    def close(self) -> None:
        """Begin no further step; one that is being generated is given up with the process."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def halt(self) -> None:
        """Return when nothing is being generated. Raises what generating raised, and WaitTooLong.

        A step that is being generated comes to its end first, because engines can't be interrupted safely.
        """
        self.close()
        with self._changed:
            self._await("driver", "the groups in generation, which are dropped", lambda: not self._is_running)
            if self._fault is not None:
                raise self._fault
            self._ready.clear()

    def begin_anew(self, version: int) -> None:
        """Start again after `halt`, with the step after `version`."""
        self._start(version + 1, version, version)

    @contextmanager
    def _turn_of(self, owner: str) -> Iterator[None]:
        if self._turn is None:
            yield
            return
        with waits.behind(owner, "its turn to compute", self._timeout_s) as wait:
            acquire(self._turn, wait)
        try:
            yield
        finally:
            self._turn.release()

    def _await(self, owner: str, what: str, is_there: Callable[[], object]) -> None:
        """Wait until the condition holds; the caller holds `_changed`."""
        with waits.behind(owner, what, self._timeout_s) as wait:
            while not self._changed.wait_for(is_there, wait.left_s):
                if wait.left_s == 0:
                    raise wait.too_long()

    def _run(self) -> None:
        try:
            for step in range(self._first_step, self._num_steps + 1):
                version = max(self._oldest_version, step - 1 - self._max_staleness)
                started_s = time.perf_counter()
                with self._changed:
                    self._await(
                        "generation",
                        f"adapter version {version}, for step {step}",
                        lambda: self._published >= version or self._is_closed,  # noqa: B023
                    )
                    if self._is_closed:
                        return
                with self._turn_of("generation"):
                    waited_s = time.perf_counter() - started_s
                    collected = self._collect(step, version)
                with self._changed:
                    self._ready.append((version, collected, waited_s))
                    self._changed.notify_all()
        except BaseException as fault:  # raised again where the groups are wanted
            with self._changed:
                self._fault = fault
        finally:
            with self._changed:
                self._is_running = False
                self._changed.notify_all()
