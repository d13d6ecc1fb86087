"""Starts a run's driver again when it dies; it continues from the last checkpoint."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from floe.cluster.contained.own_code import module_command
from floe.cluster.environment import environment_of_floe
from floe.configs.errors import EXIT_CODE_INTERRUPTED, EXIT_CODE_USER_ERROR

DRIVER_ITSELF = "--unsupervised"  # tells a driver that it has a supervisor
FINAL_CODES = (0, EXIT_CODE_USER_ERROR, EXIT_CODE_INTERRUPTED)


def supervise(first: Sequence[str], run_dir: Path, retries: int, note: Callable[[str], None]) -> int:
    """Run `floe` with the arguments `first`, then up to `retries` times `floe train --resume run_dir`.

    Returns the last driver's exit code. An error by the user, or an end that was asked for, is not retried: it would
    end the same. SIGTERM and SIGHUP are passed on to the driver, which a terminal's Ctrl-C reaches by itself.
    """
    arguments = [*first, DRIVER_ITSELF]
    for attempt in range(retries + 1):
        code, was_ended = _run(arguments)
        if code in FINAL_CODES or was_ended or attempt == retries:
            return code
        end = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        note(f"the run's driver ended with {end}: attempt {attempt + 2} of {retries + 1} goes on from {run_dir}")
        arguments = ["train", "--resume", str(run_dir), DRIVER_ITSELF]
    raise AssertionError("the loop returns")


def _run(arguments: Sequence[str]) -> tuple[int, bool]:
    """Return the driver's exit code, and whether a signal has asked for its end."""
    ended: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        ended.append(number)
        driver.send_signal(number)

    driver = subprocess.Popen(module_command("floe.cluster.cli", *arguments), env=environment_of_floe())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if before[number] is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, end)
    try:
        return driver.wait(), bool(ended)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
