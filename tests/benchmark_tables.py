"""Benchmark tables without an engine: small data sets, made-up policies, and a process that is killed while it fills.

`python -m tests.benchmark_tables FOLDER` fills a table at each place in FOLDER, in a process that is killed there:
`answering` the third cell, or `saving` it, between the evaluation and what says that the cell is finished.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from rich.console import Console

from floe.cluster.benchmark_table.cell_store import CELL_FILE, CellStore, StoredTable
from floe.cluster.benchmark_table.filling import Filled, fill
from floe.cluster.benchmark_table.rows import Column, Row, config_of
from floe.cluster.benchmark_table.table_file import Benchmark, Policy
from floe.cluster.evaluation.asked_questions import Asked
from floe.cluster.evaluation.records import evaluation_identity
from floe.cluster.evaluation.saved_evaluation import Evaluation
from floe.cluster.messages import Question
from floe.cluster.terminal.progress import Progress
from floe.configs.schema import RunConfig
from tests.evaluations import record
from tests.small_archives import make_database

TABLE = StoredTable(clock="2026-01-01 00:00:00", model_dtype="float32", rollout_dtype="float32")
BASE = Column(policy=Policy(name="base", base=True), model="tiny in float32, m")
TRAINED = Column(policy=Policy(name="trained", base=True), model="tiny in float32, m", digest="adapter 1")
PLACES = ("answering", "saving")
RIGHT = {("pets", "base"): {0}, ("pets", "trained"): {0, 1, 2}, ("shop", "base"): {1}, ("shop", "trained"): {1}}


class FakeEncoder:
    def encoded(self, question: Question) -> SimpleNamespace:
        return SimpleNamespace(token_ids=tuple(question.text.encode()), refused=False)


def config() -> RunConfig:
    return RunConfig.model_validate({"reward": {"clock": TABLE.clock}, "evaluation": {"num_samples": 4}})


def row_of_set(folder: Path, name: str, num_questions: int, **changes: object) -> Row:
    benchmark = Benchmark.model_validate({"name": name, "data": str(folder)} | changes)
    path = folder / name / f"{name}.sqlite"
    if not path.is_file():
        make_database(path)
    questions = tuple(
        Question(question_id=f"{name}-{i}", database_id=name, text=f"Which {i}?", gold_sql=("SELECT 1",))
        for i in range(num_questions)
    )
    asked = Asked(databases_dir=folder, encoder=FakeEncoder(), questions=questions)
    return Row(benchmark=benchmark, config=config_of(config(), benchmark), asked=asked)


class FakeAnswers:
    """Has each policy answer the questions of `right` by their numbers; counts the cells that it was asked."""

    def __init__(
        self,
        right: Mapping[tuple[str, str], set[int]] = RIGHT,
        before: Callable[[tuple[str, str]], object] = lambda place: None,
        without_verdict: Mapping[tuple[str, str], set[int]] = {},
    ) -> None:
        self.right, self.before, self.without_verdict = right, before, without_verdict
        self.asked: list[tuple[str, str]] = []
        self.opened_for: list[list[str]] = []

    @contextmanager
    def opened(self, columns) -> Iterator[FakeAnswers]:
        self.opened_for.append([one.name for one in columns])
        yield self

    def evaluation(self, row: Row, column: Column) -> Evaluation:
        place = row.name, column.name
        self.asked.append(place)
        self.before(place)
        questions = row.asked.questions
        right, silent = self.right[place], self.without_verdict.get(place, set())
        records = tuple(
            record(one.question_id, number in right, 4 if number in right else 0)
            for number, one in enumerate(questions)
            if number not in silent
        )
        return Evaluation(
            identity=evaluation_identity(row.config, row.asked.encoder, row.asked.databases_dir, questions, None),
            num_asked=len(questions),
            has_suite=False,
            records=records,
            left_out=tuple(f"{questions[one].question_id}: gold_failed" for one in sorted(silent)),
            clock=row.config.reward.clock,
        )


def rows_of_two_sets(folder: Path) -> list[Row]:
    return [row_of_set(folder, "pets", 4), row_of_set(folder, "shop", 2)]


def filled(folder: Path, rows: list[Row], answers: FakeAnswers, columns=(BASE, TRAINED)) -> Filled:
    """Fill the table in a folder, with its progress in `progress.txt` beside it."""
    store = CellStore(folder)
    store.open()
    with folder.with_suffix(".txt").open("w") as file:
        try:
            progress = Progress(Console(file=file, width=200))
            return fill(rows, columns, store, replace(TABLE), answers.opened, progress)
        finally:
            store.close()


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill_until_killed(folder: Path, place: str) -> None:
    answers = FakeAnswers(before=lambda cell: die() if place == "answering" and cell == ("shop", "base") else None)
    if place == "saving":
        real_write = CellStore._write
        CellStore._write = lambda store, path, text: (
            die() if path.name == CELL_FILE and "shop" in path.parts else real_write(store, path, text)
        )
    filled(folder / "table", rows_of_two_sets(folder), answers)


def main(folder: Path) -> None:
    for place in PLACES:
        (folder / place).mkdir()
        child = os.fork()
        if child == 0:
            fill_until_killed(folder / place, place)
            os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


if __name__ == "__main__":
    main(Path(sys.argv[1]))
