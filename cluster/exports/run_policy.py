"""The policy that a folder means: a run's best or latest adapter, or a PEFT folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from floe.cluster.environment import environment_overrides
from floe.cluster.run_folder.layout import config_of_run, is_run
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig


def run_of(folder: Path | None) -> Path | None:
    """Return the run's folder that this folder is, or lies in as an adapter; None without one."""
    return None if folder is None else next((one for one in (folder, folder.parent.parent) if is_run(one)), None)


def policy_of(
    folder: Path | None, config: Path | str | None, overrides: Sequence[str]
) -> tuple[RunConfig, Path | None]:
    """Return the configuration and the adapter's folder. A run's folder stands for its best adapter, or its latest."""
    run_dir = run_of(folder)
    if config is None and run_dir is None:
        raise UserError(
            "floe ask needs the configuration that the adapter was trained with: "
            "give --config FILE, or a run's folder as --adapter."
        )
    resolved = (
        load_config(config, [*environment_overrides(), *overrides])
        if config is not None or run_dir is None
        else config_of_run(run_dir, overrides)
    )
    if folder is not None and folder == run_dir:
        from floe.cluster.exports.run_adapters import find_adapter

        folder = find_adapter(folder, None).folder
    return resolved, folder
