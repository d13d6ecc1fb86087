"""Runs a process to its end, and never leaves it behind."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import IO, Any


def run_to_end(
    command: Sequence[str], environment: Mapping[str, str], stdout: IO[Any] | None, stderr: IO[Any] | int | None = None
) -> int:
    """Return the exit code. Where this process is ended meanwhile, the other is asked to end, and waited for."""
    process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
