"""Keeps count of the steps of reading one database, through a child that may die on any of them (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from floe.cluster.contained.frames import Frame
from floe.cluster.contained.process import ChildEnded
from floe.cluster.contained.runs import MAX_ATTEMPTS, Cause, Deaths


class ReadingRun:
    """Each step's value by its index, or the step's own fault; `file_fault` is set when nothing can go on."""

    def __init__(self, database: str, steps: Sequence[Sequence[Any]], time_limit_s: float) -> None:
        self._database = database
        self._steps = steps
        self._time_limit_s = time_limit_s
        self._sent: list[int] = []  # indices of the steps of the request sent last
        self._deaths = Deaths()
        self.values: dict[int, Any] = {}
        self.faults: dict[int, str] = {}
        self.file_fault = ""
        self.is_over = False

    def request(self) -> Frame:
        """Return what is still to be read."""
        known = self.values.keys() | self.faults.keys()
        self._sent = [index for index in range(len(self._steps)) if index not in known]
        return {"database": self._database, "steps": [(index, self._steps[index]) for index in self._sent]}

    def note(self, answer: Frame) -> None:
        if answer["kind"] == "done":
            self.is_over = True
        elif "file_fault" in answer:
            self.file_fault = answer["file_fault"]
        elif "fault" in answer:
            self.faults[answer["index"]] = answer["fault"]
        else:
            self.values[answer["index"]] = answer["value"]

    @property
    def num_steps(self) -> int:
        return len(self._sent)

    def blame(self, num_done: int, end: ChildEnded) -> None:
        """Record that the child ended after `num_done` answers; the next child repeats unanswered steps."""
        step = self._sent[min(num_done, len(self._sent) - 1)]
        cause = self._deaths.cause(step, end)
        if cause is Cause.CPU_TIMER:
            self.faults[step] = f"reading it takes over {self._time_limit_s:g} s of CPU time"
        elif cause is Cause.CRASH:
            self.faults[step] = f"reading it ends the process ({end})"
        elif cause is Cause.OUTSIDE:
            self.file_fault = f"{end}, {MAX_ATTEMPTS} times"
        known = len(self.values) + len(self.faults)
        self.is_over = bool(self.file_fault) or known == len(self._steps)
