"""Weights & Biases: one run there for each run folder, however often it is resumed."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from floe.cluster.tracking.record_sink import RunEnd, Values
from floe.cluster.tracking.trackers import keep_tracker_id, tracker_id
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

TRACKER = "wandb"
# W&B itself ends a run with 255 after Ctrl-C.
EXIT_CODES = {RunEnd.FINISHED: 0, RunEnd.INTERRUPTED: 255, RunEnd.FAILED: 1}


class WandbRun:
    """Sends the records from a process, so that a slow network delays no step.

    WANDB_MODE=offline keeps them in the run folder, for `wandb sync`. A step that is made again after a resume is sent
    again.
    """

    def __init__(self, config: RunConfig, run_dir: Path) -> None:
        """Start the run. Raises UserError when there is no login."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        run_id = tracker_id(run_dir, TRACKER)
        if run_id is None:
            run_id = secrets.token_hex(8)
            keep_tracker_id(run_dir, TRACKER, run_id)
        try:
            self._run = wandb.init(
                project=config.run.wandb_project,
                id=run_id,
                name=run_dir.name,
                resume="allow",
                dir=str(run_dir),
                config=config.model_dump(mode="json"),
                # Send neither the terminal's text nor the command line, user and repository.
                settings=wandb.Settings(
                    console="off", silent=True, disable_git=True, save_code=False, x_disable_meta=True
                ),
            )
        except (wandb.errors.UsageError, wandb.errors.CommError) as fault:
            raise UserError(
                f"Weights & Biases can't start ({str(fault).strip().rstrip('.')}): log in with 'wandb login', set "
                "WANDB_MODE=offline, or leave run.wandb_project out."
            ) from fault
        # Steps of its own only grow, and would refuse those that are made again after a resume.
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: Values) -> None:
        self._run.log({"step": step} | {name: value for name, value in values.items() if value is not None})

    def close(self, end: RunEnd) -> None:
        self._run.finish(exit_code=EXIT_CODES[end])
