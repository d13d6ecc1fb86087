"""Carries work through a contained process that may die on any step of it, and blames the right step."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Sequence
from enum import Enum
from itertools import count
from typing import Protocol

from floe.cluster.contained.frames import Frame, encode_frame
from floe.cluster.contained.process import ChildEnded, ContainedProcess

MAX_ATTEMPTS = 2  # of a step whose child died, unless by its own CPU timer
MAX_BYTES_AHEAD = 32 * 1024  # two such requests fit a socket's buffer, so that sending them never waits

_REQUEST_NUMBERS = count(1)  # no two requests of this process have the same, so that no child's last word is misread


class Cause(Enum):
    """What the deaths of its children say of a step."""

    CPU_TIMER = "it takes too much CPU time"
    CRASH = "it ends the process by itself"
    OUTSIDE = "somebody else ends the process: no fault of the step"


class Deaths:
    """How often a child died at each step."""

    def __init__(self) -> None:
        self._num_deaths: Counter[Hashable] = Counter()
        self._num_crashes: Counter[Hashable] = Counter()  # of these, such as the step itself brought about

    def cause(self, step: Hashable, end: ChildEnded) -> Cause | None:
        """Count one more at the step; return what it is to be blamed for, None while it is to be tried again."""
        self._num_deaths[step] += 1
        self._num_crashes[step] += end.is_crash
        if end.by_cpu_timer:
            return Cause.CPU_TIMER
        if self._num_deaths[step] < MAX_ATTEMPTS:
            return None
        return Cause.CRASH if self._num_crashes[step] >= MAX_ATTEMPTS else Cause.OUTSIDE


class Run(Protocol):
    """What may be carried through a contained process."""

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
    """Blames what the child was at; after all answers of one request, or before any, the next that it would read.

    Someone is always blamed: a request that its child does not survive reading would else be sent for ever. Between two
    requests nothing was run, so such an end is infrastructure, whatever the signal.
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
    """Keeps requests waiting at the child, which then never waits for this process, nor this process for it.

    Takes from `waiting` and enters into `sent` under the request's number; what is over is removed.
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
