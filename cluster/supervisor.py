"""Starts a run's driver again when it dies: it goes on from the last checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from configs.errors import EXIT_CODE_INTERRUPTED, EXIT_CODE_USER_ERROR

ATTEMPT_VARIABLE = "FLOE_ATTEMPT"  # tells a driver that it has a supervisor
FINAL_CODES = (0, EXIT_CODE_USER_ERROR, EXIT_CODE_INTERRUPTED)


def supervise(first: Sequence[str], run_dir: Path, retries: int, note: Callable[[str], None]) -> int:
    """Run `floe` with the arguments `first`, then up to `retries` times `floe train --resume run_dir`.

    Returns the last driver's exit code. What the user caused or asked for is not tried again: it would end the same.
    SIGTERM goes on to the driver, which a terminal's Ctrl-C reaches by itself.
    """
    arguments = list(first)
    for attempt in range(retries + 1):
        code = _run(arguments, attempt)
        if code in FINAL_CODES or attempt == retries:
            return code
        end = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        note(f"the run's driver ended with {end}: attempt {attempt + 2} of {retries + 1} goes on from {run_dir}")
        arguments = ["train", "--resume", str(run_dir)]
    raise AssertionError("the loop returns")


def has_supervisor() -> bool:
    return ATTEMPT_VARIABLE in os.environ


def _run(arguments: Sequence[str], attempt: int) -> int:
    driver = subprocess.Popen(
        [sys.executable, "-m", "cluster.cli", *arguments], env=os.environ | {ATTEMPT_VARIABLE: str(attempt)}
    )
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: driver.send_signal(number))
    try:
        return driver.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
