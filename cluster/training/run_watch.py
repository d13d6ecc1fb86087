"""One thread next to the run that writes its status file and prints waits that last."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from floe.cluster.environment import logs_dir
from floe.cluster.loop.stop_request import last_act
from floe.cluster.run_folder.failure_report import note_failure
from floe.cluster.run_folder.file_names import METRICS_FILE, STATUS_FILE
from floe.cluster.run_folder.folder_faults import folder_faults
from floe.cluster.run_folder.status import RunState, RunStatus, WaitSince, error_sentence, state_of_phase
from floe.cluster.terminal.progress import Progress
from floe.cluster.waits import Waits, waits
from floe.configs.errors import ResumeRefused, is_stop
from floe.configs.files.whole_files import write_whole

PERIOD_S = 1.0


@contextmanager
def run_watch(
    run_dir: Path, num_steps: int, progress: Progress, waits: Waits = waits, period_s: float = PERIOD_S
) -> Iterator[None]:
    """Watch the run within the block; its end, good or bad, is in the status file too.

    Where `num_steps` is 0, the number is not known yet: `progress` will have it.
    """
    watch = _RunWatch(run_dir, num_steps, progress, waits)
    watch.write(None)
    stop = threading.Event()
    thread = threading.Thread(target=watch.keep_on, args=(stop, period_s), name="run-watch", daemon=True)
    thread.start()
    end, error = RunState.FAILED, ""
    try:
        with last_act(lambda: watch.write(RunState.INTERRUPTED)), folder_faults(run_dir):
            yield
        end = RunState.FINISHED
    except BaseException as fault:
        if is_stop(fault):
            end = RunState.INTERRUPTED
        else:
            error = error_sentence(fault)
            remedy = "" if isinstance(fault, ResumeRefused) else _go_on(run_dir)
            note_failure(fault, watch.place, run_dir if run_dir.is_dir() else logs_dir(), remedy)
        raise
    finally:
        stop.set()
        thread.join()
        watch.write(end, error)


def _go_on(run_dir: Path) -> str:
    is_begun = (run_dir / METRICS_FILE).is_file()
    return f"floe train --resume {run_dir} goes on from the last checkpoint" if is_begun else ""


class _RunWatch:
    def __init__(self, run_dir: Path, num_steps: int, progress: Progress, waits: Waits) -> None:
        self._path = run_dir / STATUS_FILE
        self._num_steps = num_steps
        self._progress = progress
        self._waits = waits
        self._started = psutil.Process().create_time()
        self._fault = ""  # time of the last write

    @property
    def place(self) -> str:
        """Return, for a person, where the run is."""
        status = self._status(None, "")
        step = f"step {status.step} of {status.num_steps}" if status.state is RunState.TRAINING else ""
        waiting = f"waiting for {status.waits[0].what}" if status.waits else ""
        return ", ".join(part for part in (step or f"phase '{status.phase}'", waiting, f"driver {status.pid}") if part)

    def keep_on(self, stop: threading.Event, period_s: float) -> None:
        while not stop.wait(period_s):
            for line in self._waits.lines_due():
                self._progress.note(line)
            self.write(None)

    def write(self, end: RunState | None, error: str = "") -> None:
        """Replace the file. A full disk is only noted here, because it is reported by what must not be lost."""
        try:
            write_whole(self._path, self._status(end, error).to_json())
            self._fault = ""
        except OSError as fault:
            if self._fault != str(fault):
                self._fault = str(fault)
                self._progress.note(f"the status file can't be written: {fault}")

    def _status(self, end: RunState | None, error: str) -> RunStatus:
        now = time.time()
        phase = self._progress.current_phase
        state = state_of_phase(phase)
        num_steps = self._num_steps or self._progress.num_steps  # those of epochs are known after the set-up
        is_in_step = state is RunState.TRAINING and self._progress.num_steps_done < num_steps
        return RunStatus(
            state=end or state,
            phase=phase,
            step=self._progress.num_steps_done + is_in_step,
            num_steps=num_steps,
            waits=tuple(
                WaitSince(owner=wait.owner, what=wait.what, since=round(now - wait.waited_s, 1), limit_s=wait.limit_s)
                for wait in self._waits.now()
            ),
            pid=os.getpid(),
            started=self._started,
            host=socket.gethostname(),
            updated=round(now, 1),
            error=error,
            part="" if end else self._progress.part,
            left_s=None if end or (left_s := self._progress.left_s) is None else round(left_s, 1),
        )
