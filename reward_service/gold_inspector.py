"""Has queries of one database run in an executor child, and says of each what it returned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cluster.messages import GoldInspection, Outcome
from configs.schema import RewardSection
from reward_service.executor_process import ChildEnded, ExecutorProcess
from reward_service.executor_settings import ExecutorSettings
from reward_service.frames import Frame
from reward_service.group_run import MAX_ATTEMPTS, run_groups


class GoldInspector:
    """Owns one executor process; for one thread at a time."""

    def __init__(self, databases_dir: Path, settings: RewardSection) -> None:
        """Two runs agree by the `strict` semantics, whatever `settings` says of judging."""
        strict = settings.model_copy(update={"semantics": "strict", "float_tolerance": 0.0, "suite": None})
        self._settings = ExecutorSettings.from_section(databases_dir, strict)
        self._process = ExecutorProcess(self._settings, self._settings.wall_limit_s)

    def inspect(self, database_id: str, queries: Sequence[str]) -> list[GoldInspection]:
        """Each query is run twice. Raises ExecutorUnavailable."""
        return self._run(database_id, queries, "golds")

    def broken_texts(self, database_id: str, tables: Sequence[str]) -> dict[str, int]:
        """Number, from 1, of the first row with text that is no UTF-8, of each table that has one.

        A table above the limits of a result is not looked through. Raises ExecutorUnavailable.
        """
        queries = ['SELECT * FROM "' + table.replace('"', '""') + '"' for table in tables]
        found = self._run(database_id, queries, "texts")
        rows = {table: one.broken_row for table, one in zip(tables, found, strict=True)}
        return {table: row for table, row in rows.items() if row is not None}

    def close(self) -> None:
        self._process.close()

    def _run(self, database_id: str, queries: Sequence[str], kind: str) -> list[GoldInspection]:
        run = _InspectionRun(database_id, queries, kind, self._settings.hard_limit_s)
        if queries:
            run_groups(self._process, [run])
        return [run.inspections[index] for index in range(len(queries))]


class _InspectionRun:
    """What is known of each query, in the way of `GroupRun`."""

    def __init__(self, database_id: str, queries: Sequence[str], kind: str, hard_limit_s: float) -> None:
        self._database_id = database_id
        self._queries = queries
        self._kind = kind
        self._hard_limit_s = hard_limit_s
        self._steps: list[int] = []  # indices of the request sent last
        self._deaths: Counter[int] = Counter()
        self.inspections: dict[int, GoldInspection] = {}
        self.is_over = False

    def request(self) -> Frame:
        self._steps = [index for index in range(len(self._queries)) if index not in self.inspections]
        statements = [(index, self._queries[index]) for index in self._steps]
        return {"database_id": self._database_id, "inspect": self._kind, "statements": statements}

    def note(self, answer: Frame) -> None:
        if answer["kind"] == "done":
            self.is_over = True
            return
        fields = {name: answer[name] for name in ("message", "num_rows", "is_degenerate", "changes_by", "broken_row")}
        fields["changes_by"] = tuple(answer["changes_by"])
        self.inspections[answer["index"]] = GoldInspection(outcome=Outcome(answer["outcome"]), **fields)

    @property
    def num_steps(self) -> int:
        return len(self._steps)

    def blame(self, num_done: int, end: ChildEnded) -> None:
        index = self._steps[min(num_done, len(self._steps) - 1)]
        self._deaths[index] += 1
        if end.by_cpu_timer:
            text = f"its process was ended after {self._hard_limit_s:g} s of CPU time"
            self.inspections[index] = GoldInspection(outcome=Outcome.TIMEOUT, message=text)
        elif self._deaths[index] >= MAX_ATTEMPTS:
            outcome = Outcome.KILLED if end.by_signal else Outcome.INFRASTRUCTURE
            self.inspections[index] = GoldInspection(outcome=outcome, message=f"{end}, {MAX_ATTEMPTS} times")
        self.is_over = len(self.inspections) == len(self._queries)
