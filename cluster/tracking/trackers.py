"""Weights & Biases and MLflow: which of them a run uses, and the run's ids there."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from floe.cluster.run_folder.file_names import TRACKERS_FILE
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json
from floe.configs.files.whole_files import write_whole
from floe.configs.sections.run_section import RunSection


def check_trackers(run: RunSection) -> None:
    """Raise UserError for a tracker whose package is not installed."""
    for key, value, package in (
        ("run.wandb_project", run.wandb_project, "wandb"),
        ("run.mlflow_uri", run.mlflow_uri, "mlflow"),
    ):
        if value is not None and importlib.util.find_spec(package) is None:
            raise UserError(
                f"{key} is set, but the package {package} is not installed: "
                f"install it with pip install 'floe-rl[{package}]', or leave the key out."
            )


def tracker_id(run_dir: Path, tracker: str) -> str | None:
    """Return the id that the run has there, None before its first start."""
    return _ids(run_dir).get(tracker)


def keep_tracker_id(run_dir: Path, tracker: str, run_id: str) -> None:
    write_whole(run_dir / TRACKERS_FILE, json.dumps(_ids(run_dir) | {tracker: run_id}, indent=2) + "\n")


def _ids(run_dir: Path) -> dict[str, str]:
    path = run_dir / TRACKERS_FILE
    return parsed_json(path.read_text(encoding="utf-8")) if path.is_file() else {}
