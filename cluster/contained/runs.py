"""Carries work through a contained process that may die on any step of it, and blames the right step."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Sequence
from enum import Enum
from itertools import count
from typing import Protocol

from floe.cluster.contained.frames import Frame, encode_frame
from floe.cluster.contained.process import ChildEnded, ContainedProcess

MAX_ATTEMPTS = 2  # tries of a step whose child died, unless by its own CPU timer
MAX_BYTES_AHEAD = 32 * 1024  # bytes: two such requests fit a socket's buffer, so that sending them never waits

_REQUEST_NUMBERS = count(1)  # numbers never repeat in this process: a dead child's last word is not misread


class Cause(Enum):
    """Causes of a step's failure, as the deaths of its children show."""

    CPU_TIMER = "it takes too much CPU time"
    CRASH = "it ends the process by itself"
    OUTSIDE = "somebody else ends the process: no fault of the step"


class Deaths:
    """Counts how often a child died at each step."""

    def __init__(self) -> None:
        self._num_deaths: Counter[Hashable] = Counter()
        self._num_crashes: Counter[Hashable] = Counter()  # deaths such as the step itself brought about

    def cause(self, step: Hashable, end: ChildEnded) -> Cause | None:
        """Count one more death at the step; return its cause, None while the step is to be tried again."""
        self._num_deaths[step] += 1
        self._num_crashes[step] += end.is_crash
        if end.by_cpu_timer:
            return Cause.CPU_TIMER
        if self._num_deaths[step] < MAX_ATTEMPTS:
            return None
        return Cause.CRASH if self._num_crashes[step] >= MAX_ATTEMPTS else Cause.OUTSIDE


class Run(Protocol):
    """A piece of work that may be carried through a contained process."""

    is_over: bool

    def request(self) -> Frame: ...
    def note(self, answer: Frame) -> None: ...
    @property
    def num_steps(self) -> int: ...
    def blame(self, num_done: int, end: ChildEnded) -> None: ...


def run_all(process: ContainedProcess, runs: Sequence[Run]) -> None:
    """Run until every one is over. Raises ProcessUnavailable, after which some may not be."""
    waiting = deque(runs)
    while waiting:
        sent: dict[int, Run] = {}
        try:
            _run_until_fresh_child(process, waiting, sent)
        except ChildEnded as end:
            _blame(sent, end)
        waiting = deque(run for run in runs if not run.is_over)


def _blame(sent: dict[int, Run], end: ChildEnded) -> None:
    """Blame the request that the child was processing; between requests, the next that it would read.

    Someone is always blamed: otherwise a request that its child does not survive reading would be sent for ever.
    Between two requests nothing was run, so such an end is infrastructure, whatever the signal.
    """
    number, num_done = end.request_number, end.num_done
    if number not in sent or num_done >= sent[number].num_steps:
        later = [other for other in sent if other > number]
        if later:
            number, num_done = later[0], 0
            end = ChildEnded(str(end), (number, num_done))
    if number in sent:
        sent[number].blame(num_done, end)


def _run_until_fresh_child(process: ContainedProcess, waiting: deque[Run], sent: dict[int, Run]) -> None:
    """Keep requests waiting at the child, so that neither it nor this process waits for the other.

    Moves runs from `waiting` into `sent` under the request's number, and removes those that are over.
    """
    num_bytes_ahead: dict[int, int] = {}
    while waiting or sent:
        while waiting and sum(num_bytes_ahead.values()) < MAX_BYTES_AHEAD:
            number, run = next(_REQUEST_NUMBERS), waiting[0]
            encoded = encode_frame(run.request() | {"number": number})
            if sent and len(encoded) > MAX_BYTES_AHEAD:
                break
            sent[number] = waiting.popleft()
            num_bytes_ahead[number] = len(encoded)
            process.send(encoded)
        for answer in process.receive():
            number = next(iter(sent))  # they are answered in order
            sent[number].note(answer)
            if answer["kind"] == "done":
                del sent[number], num_bytes_ahead[number]
                if answer["recycle"]:
                    process.drop_child()
                    return
