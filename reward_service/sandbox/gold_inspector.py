"""Has queries of one database run in an executor child, and says of each what it returned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from floe.cluster.contained.frames import Frame
from floe.cluster.contained.process import ContainedProcess
from floe.cluster.contained.runs import run_all
from floe.cluster.messages import GoldInspection, Outcome
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.sandbox.executor_settings import ExecutorSettings
from floe.reward_service.sandbox.statements_run import StatementsRun


class GoldInspector:
    """Owns one executor process; for one thread at a time."""

    def __init__(self, databases_dir: Path, settings: RewardSection) -> None:
        """Set up the executor; two runs agree by the `strict` semantics, whatever `settings` says of judging."""
        strict = settings.model_copy(update={"semantics": "strict", "float_tolerance": 0.0, "suite": None})
        self._settings = ExecutorSettings.from_section(databases_dir, strict)
        self._process = ContainedProcess(self._settings, self._settings.wall_limit_s)

    def inspect(self, database_id: str, queries: Sequence[str]) -> list[GoldInspection]:
        """Run each query twice. Raises ProcessUnavailable."""
        return self._run(database_id, queries, "golds")

    def broken_texts(self, database_id: str, tables: Sequence[str]) -> dict[str, int]:
        """Return the number, from 1, of the first row with text that is no UTF-8, for each table that has one.

        A table above the limits of a result is skipped. Raises ProcessUnavailable.
        """
        queries = ['SELECT * FROM "' + table.replace('"', '""') + '"' for table in tables]
        found = self._run(database_id, queries, "texts")
        rows = {table: one.broken_row for table, one in zip(tables, found, strict=True)}
        return {table: row for table, row in rows.items() if row is not None}

    def close(self) -> None:
        self._process.close()

    def _run(self, database_id: str, queries: Sequence[str], kind: str) -> list[GoldInspection]:
        run = StatementsRun(database_id, queries, {"inspect": kind}, self._settings.hard_limit_s)
        if queries:
            run_all(self._process, [run])
        return [_inspection(run.answers[index]) for index in range(len(queries))]


def _inspection(answer: Frame) -> GoldInspection:
    marks = {name: answer[name] for name in ("num_rows", "is_degenerate", "broken_row") if name in answer}
    changes_by = tuple(answer.get("changes_by", ()))
    return GoldInspection(outcome=Outcome(answer["outcome"]), message=answer["message"], changes_by=changes_by, **marks)
