"""Keeps count of statements of one database that an executor child runs one by one, as `GroupRun` does."""

from __future__ import annotations

from collections.abc import Sequence

from floe.cluster.contained.frames import Frame
from floe.cluster.contained.process import ChildEnded
from floe.cluster.contained.runs import MAX_ATTEMPTS, Cause, Deaths
from floe.cluster.messages import Outcome


class StatementsRun:
    """`answers` has by index the executor's frame, or outcome and message of a statement on which its child died."""

    def __init__(self, database_id: str, statements: Sequence[str], asked: Frame, hard_limit_s: float) -> None:
        """Take the statements; `asked` are the fields of the request that say what is wanted."""
        self._database_id = database_id
        self._statements = statements
        self._asked = asked
        self._hard_limit_s = hard_limit_s
        self._steps: list[int] = []  # indices of the request sent last
        self._deaths = Deaths()
        self.answers: dict[int, Frame] = {}
        self.is_over = False

    def request(self) -> Frame:
        self._steps = [index for index in range(len(self._statements)) if index not in self.answers]
        statements = [(index, self._statements[index]) for index in self._steps]
        return {"database_id": self._database_id, "statements": statements, **self._asked}

    def note(self, answer: Frame) -> None:
        if answer["kind"] == "done":
            self.is_over = True
        else:
            self.answers[answer["index"]] = answer

    @property
    def num_steps(self) -> int:
        return len(self._steps)

    def blame(self, num_done: int, end: ChildEnded) -> None:
        index = self._steps[min(num_done, len(self._steps) - 1)]
        cause = self._deaths.cause(index, end)
        if cause is Cause.CPU_TIMER:
            text = f"its process was ended after {self._hard_limit_s:g} s of CPU time"
            self.answers[index] = {"outcome": Outcome.TIMEOUT.value, "message": text}
        elif cause is not None:
            outcome = Outcome.KILLED if cause is Cause.CRASH else Outcome.INFRASTRUCTURE
            self.answers[index] = {"outcome": outcome.value, "message": f"{end}, {MAX_ATTEMPTS} times"}
        self.is_over = len(self.answers) == len(self._statements)
