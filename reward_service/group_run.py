"""Carries one group through an executor that may die on any of its statements, and blames the right one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cluster.messages import Outcome
from reward_service.executor_process import ChildEnded, ExecutorProcess
from reward_service.frames import Frame
from reward_service.verdict import Verdict

MAX_ATTEMPTS = 2  # of a statement whose child died, unless by its own CPU timer

Step = tuple[str, int]  # "gold" or "statement", and its index


class GroupRun:
    """The verdicts of one group's statements; `failure` is set instead when no gold could be had."""

    def __init__(
        self,
        process: ExecutorProcess,
        database_id: str,
        golds: Sequence[str],
        statements: Sequence[str],
        hard_limit_s: float,
    ) -> None:
        self._process = process
        self._database_id = database_id
        self._golds = golds
        self._statements = statements
        self._hard_limit_s = hard_limit_s
        self._deaths: Counter[Step] = Counter()
        self._gold_failures: dict[int, Verdict] = {}
        self._empty_golds: dict[int, bool] = {}
        self.verdicts: dict[int, Verdict] = {}
        self.failure: Verdict | None = None
        self.num_cached = 0  # statements whose verdict was known already

    @property
    def has_empty_golds(self) -> bool:
        """Whether every gold that could be run returns no rows."""
        return bool(self._empty_golds) and all(self._empty_golds.values())

    def run(self) -> None:
        """Runs until each statement has a verdict or the group has failed. Raises ExecutorUnavailable."""
        done = False
        while not done and self.failure is None:
            done = self._attempt()
            if len(self._gold_failures) == len(self._golds):
                self.failure = self._gold_failures[0]

    def _attempt(self) -> bool:
        """One child's part of the work; False when it left a step undone: it died, or there is no gold to go on."""
        golds = [(index, sql) for index, sql in enumerate(self._golds) if index not in self._gold_failures]
        statements = [(index, sql) for index, sql in enumerate(self._statements) if index not in self.verdicts]
        steps: list[Step] = [("gold", index) for index, _ in golds]
        steps += [("statement", index) for index, _ in statements]
        num_known, is_done = 0, False
        try:
            self._process.send({"database_id": self._database_id, "golds": golds, "statements": statements})
            while not is_done:
                frame = self._process.receive()
                is_done = frame["kind"] == "done"
                num_known += len(frame["answers"])
                for answer in frame["answers"]:
                    self._note(answer)
        except ChildEnded as end:
            # Answers that it had and did not send are made again by the next child.
            if end.num_done < len(steps):
                self._blame(steps[end.num_done], end)
        else:
            if frame["recycle"]:
                self._process.drop_child()
        return num_known >= len(steps)

    def _note(self, frame: Frame) -> None:
        if frame.get("ready"):
            self._empty_golds[frame["index"]] = frame["empty"]
            return
        self.num_cached += frame.get("cached", False)
        verdict = Verdict(Outcome(frame["outcome"]), frame["message"], frame["seconds"])
        self._settle((frame["kind"], frame["index"]), verdict)

    def _blame(self, step: Step, end: ChildEnded) -> None:
        self._deaths[step] += 1
        if end.by_cpu_timer:
            text = f"its process was ended after {self._hard_limit_s:g} s of CPU time"
            self._settle(step, Verdict(Outcome.TIMEOUT, text, self._hard_limit_s))
        elif self._deaths[step] >= MAX_ATTEMPTS:
            outcome = Outcome.KILLED if end.by_signal else Outcome.INFRASTRUCTURE
            self._settle(step, Verdict(outcome, f"{end}, {MAX_ATTEMPTS} times"))

    def _settle(self, step: Step, verdict: Verdict) -> None:
        kind, index = step
        if kind == "statement":
            self.verdicts[index] = verdict
        elif verdict.outcome is Outcome.INFRASTRUCTURE:
            self.failure = verdict
        elif verdict.outcome is Outcome.GOLD_FAILED:
            self._gold_failures[index] = verdict
        else:
            text = f"gold SQL ended as {verdict.outcome}: {verdict.message}"
            self._gold_failures[index] = Verdict(Outcome.GOLD_FAILED, text, verdict.seconds)
