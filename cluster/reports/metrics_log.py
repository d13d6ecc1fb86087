"""Writes each step's record to `metrics.jsonl` and to TensorBoard."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from cluster.messages import Outcome
from cluster.reports.reward_metrics import RewardMetrics
from cluster.reports.step_metrics import StepMetrics

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class MetricsLog:
    """Appends to a run folder, which it makes; a record is on disk when `write` returns."""

    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self._path = run_dir / METRICS_FILE
        self._file = self._path.open("a", encoding="utf-8")
        self._curves_dir = str(run_dir / TENSORBOARD_FOLDER)
        self._curves = _new_curves(self._curves_dir)

    def write(self, record: StepMetrics, rewards: RewardMetrics | None = None) -> None:
        """One JSON line, where a value that is not finite is null, and one TensorBoard scalar per finite value; of
        `groups_by_staleness` one for each staleness.

        The reward workers' numbers stand under `reward_...`, their counts of outcomes under `outcome_...`.
        """
        numbers = asdict(record) | ({} if rewards is None else _flat(rewards))
        by_staleness = numbers.pop("groups_by_staleness")
        values = {name: _finite_or_none(value) for name, value in numbers.items()}
        self._file.write(json.dumps(values | {"groups_by_staleness": by_staleness}, allow_nan=False) + "\n")
        self._file.flush()
        counts = {f"groups_of_staleness_{staleness}": count for staleness, count in enumerate(by_staleness)}
        for name, value in (values | counts).items():
            if name != "step" and value is not None:
                self._curves.add_scalar(name, value, step=record.step)
        self._curves.flush()

    def forget_after(self, step: int) -> None:
        """Drop the records of later steps, and a last one that was not written whole; before the first `write`.

        TensorBoard's files can only grow: a mark in a new one has it drop the later points of those before.
        """
        os.truncate(self._path, num_bytes_up_to(step, self._path.read_bytes()))
        self._curves.close()
        _mark_restart(self._curves_dir, step + 1)
        self._curves = _new_curves(self._curves_dir)

    def close(self) -> None:
        """Close both files; a second call does nothing."""
        if not self._file.closed:
            self._file.close()
            self._curves.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def num_bytes_up_to(step: int, lines: bytes) -> int:
    """Length of the whole records at the head of `lines` that are of no later step."""
    position = 0
    for line in lines.splitlines(keepends=True):
        if not line.endswith(b"\n") or json.loads(line)["step"] > step:
            break
        position += len(line)
    return position


def _new_curves(folder: str) -> Any:
    # Imported late, since only a training run needs it; this writer needs neither torch nor TensorFlow.
    from tensorboard.summary import Writer

    return Writer(folder)


def _mark_restart(folder: str, first_step: int) -> None:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    marks = EventFileWriter(folder)
    for _ in range(2):  # TensorBoard takes the first of all for the run's own start
        marks.add_event(Event(step=first_step, wall_time=time.time(), session_log=SessionLog(status=SessionLog.START)))
    marks.close()


def _flat(rewards: RewardMetrics) -> dict[str, float]:
    numbers = asdict(rewards)
    outcomes = numbers.pop("outcomes")
    return {f"reward_{name}": value for name, value in numbers.items()} | {
        f"outcome_{outcome.value}": outcomes.get(outcome.value, 0) for outcome in Outcome
    }


def _finite_or_none(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
