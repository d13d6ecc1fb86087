"""Has statements run in an executor child, under the limits of judging, and returns their first rows for a person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from floe.cluster.contained.frames import Frame
from floe.cluster.contained.process import ContainedProcess
from floe.cluster.contained.runs import run_all
from floe.cluster.messages import Outcome, QueryResult
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.sandbox.executor_settings import ExecutorSettings
from floe.reward_service.sandbox.statements_run import StatementsRun


class ResultReader:
    """Owns one executor process; for one thread at a time."""

    def __init__(self, databases_dir: Path, settings: RewardSection, max_rows: int) -> None:
        main_alone = settings.model_copy(update={"suite": None})
        self._settings = ExecutorSettings.from_section(databases_dir, main_alone)
        self._process = ContainedProcess(self._settings, self._settings.wall_limit_s)
        self._max_rows = max_rows

    def read(self, database_id: str, statements: Sequence[str]) -> list[QueryResult]:
        """Return one result each from the main database, whatever the statements do. Raises ProcessUnavailable."""
        asked = {"inspect": "rows", "max_rows": self._max_rows}
        run = StatementsRun(database_id, statements, asked, self._settings.hard_limit_s)
        if statements:
            run_all(self._process, [run])
        return [_result(run.answers[index]) for index in range(len(statements))]

    def close(self) -> None:
        self._process.close()


def _result(answer: Frame) -> QueryResult:
    return QueryResult(
        outcome=Outcome(answer["outcome"]),
        message=answer["message"],
        num_rows=answer.get("num_rows", 0),
        num_columns=answer.get("num_columns", 0),
        columns=tuple(answer.get("columns", ())),
        rows=tuple(map(tuple, answer.get("rows", ()))),
    )
