"""Writes each step's record to `metrics.jsonl` and to TensorBoard."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Self

from cluster.messages import Outcome
from cluster.reports.reward_metrics import RewardMetrics
from cluster.reports.step_metrics import InterimResult, StepMetrics

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class MetricsLog:
    """Appends to a run folder, which it makes; a record is on disk when `write` returns."""

    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        # Imported late, since only a training run needs it; this writer needs neither torch nor TensorFlow.
        from tensorboard.summary import Writer

        self._file = (run_dir / METRICS_FILE).open("a", encoding="utf-8")
        self._curves = Writer(str(run_dir / TENSORBOARD_FOLDER))

    def write(
        self, record: StepMetrics, rewards: RewardMetrics | None = None, evaluated: InterimResult | None = None
    ) -> None:
        """One JSON line, where a value that is not finite is null, and one TensorBoard scalar per finite value; of
        `groups_by_staleness` one for each staleness.

        The reward workers' numbers stand under `reward_...`, their counts of outcomes under `outcome_...`, and
        after a step with an evaluation its numbers under `eval_...`.
        """
        numbers = asdict(record) | ({} if rewards is None else _flat(rewards))
        by_staleness = numbers.pop("groups_by_staleness")
        if evaluated is not None:
            numbers |= {f"eval_{name}": value for name, value in asdict(evaluated).items()}
        values = {name: _finite_or_none(value) for name, value in numbers.items()}
        self._file.write(json.dumps(values | {"groups_by_staleness": by_staleness}, allow_nan=False) + "\n")
        self._file.flush()
        counts = {f"groups_of_staleness_{staleness}": count for staleness, count in enumerate(by_staleness)}
        for name, value in (values | counts).items():
            if name != "step" and value is not None:
                self._curves.add_scalar(name, value, step=record.step)
        self._curves.flush()

    @property
    def position(self) -> int:
        """Bytes of the file up to the last record's end."""
        return self._file.tell()

    def close(self) -> None:
        """Close both files; a second call does nothing."""
        if not self._file.closed:
            self._file.close()
            self._curves.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def forget_metrics_after(run_dir: Path, step: int, position: int) -> None:
    """Drop what a run recorded of steps after `step`, whose records end at byte `position`; nobody may be writing.

    TensorBoard's files can only grow: a mark in a new one has it drop the later points of those before.
    """
    path = run_dir / METRICS_FILE
    if path.is_file() and path.stat().st_size > position:
        os.truncate(path, position)
    if (run_dir / TENSORBOARD_FOLDER).is_dir():
        _mark_restart(str(run_dir / TENSORBOARD_FOLDER), step + 1)


def _mark_restart(folder: str, first_step: int) -> None:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    _wait_for_next_second()  # TensorBoard reads files in the order of their names, which are of whole seconds
    marks = EventFileWriter(folder)
    for _ in range(2):  # TensorBoard takes the first of all for the run's own start
        marks.add_event(Event(step=first_step, wall_time=time.time(), session_log=SessionLog(status=SessionLog.START)))
    marks.close()
    _wait_for_next_second()


def _wait_for_next_second() -> None:
    time.sleep(1 - time.time() % 1)


def _flat(rewards: RewardMetrics) -> dict[str, float]:
    numbers = asdict(rewards)
    outcomes = numbers.pop("outcomes")
    return {f"reward_{name}": value for name, value in numbers.items()} | {
        f"outcome_{outcome.value}": outcomes.get(outcome.value, 0) for outcome in Outcome
    }


def _finite_or_none(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
