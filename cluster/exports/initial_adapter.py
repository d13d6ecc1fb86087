"""Finds the adapter that a run starts from: an adapter's folder, a run's folder, or a name on the hub."""

from __future__ import annotations

import os
from pathlib import Path

from floe.cluster.exports.run_adapters import find_adapter
from floe.cluster.models.model_folder import hub_adapter
from floe.cluster.run_folder.layout import is_run
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig


class AdapterGoneError(UserError):
    """Nothing can be found where `lora.initial_adapter` says; a run with a checkpoint goes on without it."""


def initial_adapter(config: RunConfig) -> Path | None:
    """Return the folder of the adapter that `lora.initial_adapter` means; None without one.

    A run's folder stands for its best adapter, or its latest, as in an export. Raises AdapterGoneError.
    """
    name = config.lora.initial_adapter
    if name is None:
        return None
    folder = Path(name)
    if os.path.isabs(name) and not folder.is_dir():
        raise AdapterGoneError(
            f"lora.initial_adapter is {name}, and there is no such folder: give the folder of an adapter or of a run."
        )
    try:
        if not os.path.isabs(name):
            return hub_adapter(config, name)
        return find_adapter(folder, None).folder if is_run(folder) else folder
    except UserError as fault:
        raise AdapterGoneError(str(fault)) from fault
