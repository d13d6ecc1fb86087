"""The policy that a caller means: a run, an adapter's folder, or the base model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from floe.cluster.api.runs import Run
from floe.cluster.api.settings import QUICKSTART, Preset, config_file, configuration
from floe.cluster.exports.run_policy import policy_of, run_of
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

Adapter = Run | str | Path | None  # None: the base model


def chosen_policy(adapter: Adapter, preset: Preset, texts: Sequence[str]) -> tuple[RunConfig, Path | None]:
    """Return the configuration and the adapter's folder. Raises UserError for a run without an adapter, and
    for what is none.

    Without a preset the adapter's run says how it is asked; without a run the quickstart does.
    """
    if not isinstance(adapter, Run | str | Path | None):
        raise UserError(
            f"adapter is of type {type(adapter).__name__}: give a run, its folder or a PEFT folder, or None for the "
            "base model; what is asked comes after it."
        )
    folder = adapter.folder if isinstance(adapter, Run) else None if adapter is None else Path(adapter)
    folder = None if folder is None else folder.expanduser().resolve()
    if folder is None:
        return configuration(QUICKSTART if preset is None else preset, texts), None
    chosen = config_file(preset)
    return policy_of(folder, QUICKSTART if chosen is None and run_of(folder) is None else chosen, texts)
