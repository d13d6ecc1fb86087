"""Keeps count of one group's statements, through an executor that may die on any of them."""

from __future__ import annotations

from collections.abc import Sequence

from floe.cluster.contained.frames import Frame
from floe.cluster.contained.process import ChildEnded
from floe.cluster.contained.runs import MAX_ATTEMPTS, Cause, Deaths
from floe.cluster.messages import Outcome, ResultProfile, ScoreRequest
from floe.reward_service.verdict import Verdict

Step = tuple[str, int]  # "gold" or "statement", and its index


class GroupRun:
    """The verdicts of one group's statements; `failure` is set instead when no gold could be had."""

    def __init__(
        self, asked: ScoreRequest, statements: Sequence[str], hard_limit_s: float, semantics: str | None = None
    ) -> None:
        """Take the group; `semantics` replace the executor's own."""
        self._asked = asked
        self._semantics = semantics
        self._golds = asked.gold_sql
        self._statements = statements
        self._hard_limit_s = hard_limit_s
        self._steps: list[Step] = []  # those of the request sent last
        self._deaths = Deaths()
        self._gold_failures: dict[int, Verdict] = {}
        self._empty_golds: dict[int, bool] = {}
        self.verdicts: dict[int, Verdict] = {}
        self.profiles: dict[int, ResultProfile] = {}
        self.failure: Verdict | None = None
        self.num_cached = 0  # statements whose verdict was known already
        self.num_cached_golds = 0
        self.is_over = False  # each statement has a verdict, or the group has failed

    @property
    def has_empty_golds(self) -> bool:
        """True when every gold that could be run returns no rows."""
        return bool(self._empty_golds) and all(self._empty_golds.values())

    def request(self) -> Frame:
        """Return what is still to be run, for a child that knows nothing of the group."""
        golds = [(index, sql) for index, sql in enumerate(self._golds) if index not in self._gold_failures]
        statements = [(index, sql) for index, sql in enumerate(self._statements) if index not in self.verdicts]
        self._steps = [("gold", index) for index, _ in golds] + [("statement", index) for index, _ in statements]
        request: Frame = {"database_id": self._asked.database_id, "golds": golds, "statements": statements}
        if self._semantics is not None:
            request["semantics"] = self._semantics
        if self._asked.with_profiles:
            request["profiles"] = {"num_timings": self._asked.num_timings}
        return request

    def note(self, answer: Frame) -> None:
        """Record one of the request's answers; `done` is its last."""
        if answer["kind"] == "done":
            self.is_over = True
        elif answer.get("ready"):
            self.num_cached_golds += answer["cached"]
            self._empty_golds[answer["index"]] = answer["empty"]
        else:
            self.num_cached += answer["kind"] == "statement" and answer.get("cached", False)
            is_empty = answer["kind"] == "statement" and answer.get("empty", False)
            verdict = Verdict(Outcome(answer["outcome"]), answer["message"], answer["seconds"], is_empty)
            self._settle((answer["kind"], answer["index"]), verdict)
            if (profile := answer.get("profile")) is not None:
                self.profiles[answer["index"]] = ResultProfile(**profile)

    @property
    def num_steps(self) -> int:
        """Number of answers that the request sent last asks for, without `done`."""
        return len(self._steps)

    def blame(self, num_done: int, end: ChildEnded) -> None:
        """Record that the child ended here after `num_done` answers; the next child makes those not sent again."""
        step = self._steps[min(num_done, len(self._steps) - 1)]
        cause = self._deaths.cause(step, end)
        if cause is Cause.CPU_TIMER:
            text = f"its process was ended after {self._hard_limit_s:g} s of CPU time"
            self._settle(step, Verdict(Outcome.TIMEOUT, text, self._hard_limit_s))
        elif cause is not None:
            outcome = Outcome.KILLED if cause is Cause.CRASH else Outcome.INFRASTRUCTURE
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
        if self.failure is None and len(self._gold_failures) == len(self._golds):
            self.failure = self._gold_failures[0]
        self.is_over = self.is_over or self.failure is not None
