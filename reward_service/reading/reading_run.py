"""Keeps count of the texts of one call, through a reader that may die on any of them (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from floe.cluster.contained.frames import Frame
from floe.cluster.contained.process import ChildEnded
from floe.cluster.contained.runs import MAX_ATTEMPTS, Cause, Deaths
from floe.reward_service.reading.forms import Form, Unreadable, decoded
from floe.reward_service.reading.schema_reader import Schema

SCHEMA = -1  # the step before the first text


class ReadingRun:
    """Forms of the texts by their index; `unavailable` is set instead when the schema could not be read."""

    def __init__(self, database_id: str, texts: Sequence[str], time_limit_s: float) -> None:
        self._database_id = database_id
        self._texts = texts
        self._time_limit_s = time_limit_s
        self._steps: list[int] = []  # indices of the request sent last
        self._deaths = Deaths()
        self.forms: dict[int, Form] = {}
        self.schema: Schema = {}  # where no text is asked for
        self.unavailable: str | None = None
        self.is_over = False

    def request(self) -> Frame:
        """Return what is still to be read."""
        texts = [(index, sql) for index, sql in enumerate(self._texts) if index not in self.forms]
        self._steps = [SCHEMA, *(index for index, _ in texts)]
        return {"database_id": self._database_id, "texts": texts, "with_schema": not self._texts}

    def note(self, answer: Frame) -> None:
        """Record one of the request's answers; `done` is its last."""
        if answer["kind"] == "done":
            self.is_over = True
        elif answer["kind"] == "text":
            self.forms[answer["index"]] = decoded(answer["form"])
        elif "fault" in answer:
            self.unavailable = answer["fault"]
        else:
            self.schema = answer.get("schema", {})

    @property
    def num_steps(self) -> int:
        """Number of answers that the request sent last asks for, without `done`."""
        return len(self._steps)

    def blame(self, num_done: int, end: ChildEnded) -> None:
        """Record that the child ended after `num_done` answers; the next child makes those not sent again."""
        step = self._steps[min(num_done, len(self._steps) - 1)]
        cause = self._deaths.cause(step, end)
        if cause is Cause.CPU_TIMER:
            self._settle(
                step, Unreadable("limit", f"reading it takes over {self._time_limit_s:g} s of CPU time", is_fault=True)
            )
        elif cause is Cause.CRASH:
            self._settle(
                step, Unreadable("limit", f"reading it takes more memory than there is ({end})", is_fault=True)
            )
        elif cause is Cause.OUTSIDE:
            self.unavailable = f"{end}, {MAX_ATTEMPTS} times"
            self.is_over = True

    def _settle(self, step: int, found: Unreadable) -> None:
        if step == SCHEMA:
            self.unavailable = f"the schema of database {self._database_id!r}: {found.message}; check the file"
            self.is_over = True
        else:
            self.forms[step] = found
            self.is_over = len(self.forms) == len(self._texts)
