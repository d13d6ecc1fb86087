"""Runs the command line in a separate process."""

import os
import subprocess
import sys
from pathlib import Path

from tests.preloaded.python import preloaded_python

REPOSITORY = Path(__file__).resolve().parent.parent
SMOKE_TIMEOUT_S = 3600
SECRET = "a-token-that-nobody-may-write"


def floe(
    *arguments: str,
    home: Path,
    timeout_s: float = SMOKE_TIMEOUT_S,
    is_preloaded: bool = True,
    working_folder: Path | None = None,
) -> subprocess.CompletedProcess:
    """Run the command line in a separate process, in `working_folder`, by default `home`, and not the repository.

    A process that is not preloaded imports everything itself, as a user's does, and so do its actors.
    """
    python = preloaded_python() if is_preloaded else sys.executable
    environment = {**os.environ, "FLOE_HOME": str(home), "HF_TOKEN": SECRET, "WANDB_API_KEY": SECRET}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        [python, "-m", "floe.cluster.cli", *arguments],
        cwd=working_folder or home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def config(name: str) -> str:
    return str(REPOSITORY / "configs" / name)
