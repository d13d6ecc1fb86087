"""A run of the supervised stage alone: `run.num_steps=0`. Its adapter is where that of GRPO's last step would be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from floe.cluster.ray_actors.placement import check_resources, ray_session
from floe.cluster.run_folder.file_names import LATEST_ADAPTER
from floe.cluster.training.attempt import Run
from floe.cluster.training.warm_start import warm_start_adapter


def train_supervised(run: Run) -> None:
    """Make the warm start's adapter and copy it into the run's folder.

    An interrupted one goes on from its last evaluation, in the warm start's own folder. Raises UserError for what the
    user can fix.
    """
    assert run.warm_start is not None
    with ray_session(run.config.cluster, namespace=f"floe-{run.run_dir.name}-supervised") as line:
        run.progress.note(line)
        check_resources(run.given)
        run.progress.phase("warm start")
        made = warm_start_adapter(run.config, run.model_dir, run.warm_start, run.progress)
    _copy_whole(made, run.run_dir / LATEST_ADAPTER)
    run.progress.note(
        f"no GRPO, and no evaluation: floe evaluate --config {run.run_dir}/config.yaml --adapter "
        f"{run.run_dir / LATEST_ADAPTER} asks the adapter"
    )


def _copy_whole(source: Path, target: Path) -> None:
    """Copy the folder, so that it stands under its name whole or not at all."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(part, target)
