"""Runs the command line in a process of its own, as a user does."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FLOE = (sys.executable, "-m", "cluster.cli")
SMOKE_TIMEOUT_S = 3600
SECRET = "a-token-that-nobody-may-write"


def floe(*arguments: str, home: Path, timeout_s: float = SMOKE_TIMEOUT_S) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own, in another folder than the repository."""
    environment = {**os.environ, "FLOE_HOME": str(home), "HF_TOKEN": SECRET, "WANDB_API_KEY": SECRET}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        [*FLOE, *arguments], cwd=home, env=environment, capture_output=True, text=True, timeout=timeout_s
    )


def config(name: str) -> str:
    return str(REPOSITORY / "configs" / name)
