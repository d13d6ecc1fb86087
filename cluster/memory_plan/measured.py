"""Measurements on a card, as a JSON file of the home folder, for the memory plan in place of its constants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from floe.cluster.machine.card_figures import figures_file
from floe.cluster.memory_plan.overheads import Overheads
from floe.configs.errors import UserError

FIGURES = (
    "cuda_context_bytes",
    "cuda_graphs_bytes",
    "engine_asleep_bytes",
    "cublas_workspace_bytes",
    "nccl_bytes",
    "allocator_slack_share",
)
SHARE = "allocator_slack_share"


def read_measured(home_dir: Path, card_name: str) -> Overheads | None:
    """Return the overheads with the figures that were measured on such a card; None when there are none.

    Raises UserError for a file that holds something else.
    """
    path = figures_file(home_dir, card_name)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as fault:
        raise _unusable(path, str(fault)) from fault
    try:
        found = json.loads(text)
    except ValueError as fault:
        raise _unusable(path, str(fault)) from fault
    if not isinstance(found, dict):
        raise _unusable(path, "it holds no figures by name")
    figures = {name: _figure(path, name, found[name]) for name in FIGURES if found.get(name) is not None}
    usable = found.get("usable_bytes")
    return Overheads(
        **figures,
        measured=tuple(figures),
        measured_on=str(found.get("measured_on", "an unknown day")),
        usable_bytes=None if usable is None else int(_figure(path, "usable_bytes", usable)),
    )


def _figure(path: Path, name: str, value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < (1 if name == SHARE else 2**60):
        raise _unusable(path, f"{name} is {value!r}")
    return float(value) if name == SHARE else int(value)


def _unusable(path: Path, why: str) -> UserError:
    return UserError(
        f"'{path}' does not hold what was measured on a GPU ({why}): delete it, or measure again with 'make prove-gpu'."
    )
