"""A run without actors, for a terminal: `python -m tests.watched_run finish|fail|wait RUN_DIR`."""

import logging
import sys
import time
from pathlib import Path

from floe.cluster.loop.stop_request import StopRequest
from floe.cluster.terminal.live_terminal import live_view
from floe.cluster.terminal.progress import Progress, make_console
from floe.cluster.tracking.step_metrics import InterimResult
from floe.cluster.training.run_watch import run_watch
from tests.step_records import step_record

NUM_STEPS = 20


def steps(progress: Progress, stop: StopRequest, end: str) -> None:
    logging.getLogger("library").warning("a library's warning")
    for step in range(1, 8):
        progress.step(step_record(step, kl=0.0123, correct_share=1 / 3), NUM_STEPS)
        if step == 5:
            result = InterimResult(
                adapter_version=5, greedy=0.5, executes=0.75, num_questions=24, seconds=1.0, is_best=True
            )
            progress.evaluated(result)
        if step == 6:
            print("what a library prints")
        stop.end_if_made(step)
    if end == "fail":
        raise RuntimeError("the disk is on fire")
    while end == "wait":
        time.sleep(0.05)
        stop.end_if_made(7)


def train(end: str, run_dir: Path) -> None:
    logging.getLogger("library").addHandler(logging.StreamHandler())
    progress = Progress(make_console(), NUM_STEPS)
    with live_view(progress), run_watch(run_dir, NUM_STEPS, progress):
        progress.phase("set-up")
        for number in range(6):
            progress.note(f"warning: set-up note {number}")
        progress.phase("GRPO")
        with StopRequest(progress.note) as stop:
            steps(progress, stop, end)
    print("the table")
    progress.note("files of the run")


if __name__ == "__main__":
    from floe.cluster import cli

    # End as `floe train` does: its exit codes, and the first screen of a failure.
    cli.app = lambda prog_name: train(sys.argv[1], Path(sys.argv[2]))
    cli.main()
