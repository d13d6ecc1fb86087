"""The folder that a run writes into: a new one, or that of a run that continues."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from floe.cluster.environment import environment_overrides
from floe.cluster.run_folder.file_names import CONFIG_FILE
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig

LEVELS_TO_RUN = 2  # RUN/adapters/latest
SENT_FOLDERS = "working_dir_files"  # folder into which Ray unpacks what `ray job submit --working-dir` sends


def new_run_dir(config: RunConfig, run_dir: Path | None) -> Path:
    """Make the given folder, or one named after the run and the time. Raises UserError when it holds a run."""
    if run_dir is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]  # milliseconds, since one process may start several
        run_dir = config.run.home_dir / "runs" / f"{config.run.name}-{stamp}-{os.getpid()}"
    run_dir = run_dir.expanduser().resolve()
    if SENT_FOLDERS in run_dir.parts:
        raise UserError(
            f"The run folder {run_dir} is within the copy of the working folder that a Ray job has, and goes with it: "
            "give an absolute --run-dir, FLOE_HOME or run.home."
        )
    if (run_dir / CONFIG_FILE).exists():
        raise UserError(
            f"The run folder {run_dir} holds a run already: choose another --run-dir, or go on with --resume {run_dir}."
        )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError(
            f"Can't make the run folder {run_dir} ({fault.strerror}): choose another --run-dir, FLOE_HOME or run.home."
        ) from fault
    return run_dir


def is_run(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file()


def config_of_run(run_dir: Path, overrides: Sequence[str]) -> RunConfig:
    """Return the configuration in the run's folder, with FLOE_HOME for its home where that is set.

    Raises UserError when there is none.
    """
    if not is_run(run_dir):
        raise UserError(f"{run_dir} is no run folder (it has no {CONFIG_FILE}): give the one that floe train printed.")
    return load_config(run_dir / CONFIG_FILE, [*environment_overrides(), *overrides], is_of_run=True)


def recorded_config(adapter: Path) -> RunConfig | None:
    """Return the configuration of the run whose adapter (or folder) this is; None for a foreign adapter."""
    folders = (adapter, *adapter.expanduser().resolve().parents[:LEVELS_TO_RUN])
    return next((config_of_run(folder, ()) for folder in folders if is_run(folder)), None)
