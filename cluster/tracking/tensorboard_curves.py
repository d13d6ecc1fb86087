"""TensorBoard: one curve for each number of a step's record."""

from __future__ import annotations

import time
from pathlib import Path

from floe.cluster.tracking.record_sink import RunEnd, Values

TENSORBOARD_FOLDER = "tensorboard"


class TensorBoardCurves:
    def __init__(self, run_dir: Path) -> None:
        # Imported late, since only a training run needs it; this writer needs neither torch nor TensorFlow.
        from tensorboard.summary import Writer

        self._curves = Writer(str(run_dir / TENSORBOARD_FOLDER))
        self._is_closed = False

    def write(self, step: int, values: Values) -> None:
        for name, value in values.items():
            if value is not None:
                self._curves.add_scalar(name, value, step=step)
        self._curves.flush()

    def close(self, end: RunEnd) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._curves.close()


def forget_curves_after(run_dir: Path, step: int) -> None:
    """Add a file with a mark that drops the later points: TensorBoard's files can only grow."""
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
