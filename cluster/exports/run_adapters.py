"""Finds the adapter of a run that is meant, and what its folder says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from floe.cluster.evaluation.results import last_step, read_best
from floe.cluster.exports.model_card import Selection, Which
from floe.cluster.run_folder.file_names import ADAPTERS, METRICS_FILE
from floe.configs.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAdapter:
    """`version` counts GRPO steps; None where the run's folder does not say."""

    which: Which
    folder: Path
    version: int | None
    selection: Selection | None = None


def find_adapter(run_dir: Path, which: Which | None) -> FoundAdapter:
    """Return the chosen adapter; without a choice the best, or the latest. Raises UserError when it is missing."""
    adapters = run_dir / ADAPTERS
    chosen: Which = which or ("best" if (adapters / "best").is_dir() else "latest")
    folder = adapters / chosen
    if not folder.is_dir():
        there = sorted(one for one in ("best", "latest", "start") if (adapters / one).is_dir())
        raise UserError(
            f"The run {run_dir} has no adapter {ADAPTERS}/{chosen}: "
            + (f"choose with --which one that it has ({', '.join(there)})." if there else "it has none as yet.")
        )
    if chosen == "best":
        best = read_best(run_dir)
        if best is None:
            return FoundAdapter(which=chosen, folder=folder, version=None)
        selection = Selection(greedy=best.greedy, num_questions=best.num_questions)
        return FoundAdapter(which=chosen, folder=folder, version=best.adapter_version, selection=selection)
    if chosen == "start":
        return FoundAdapter(which=chosen, folder=folder, version=0)
    return FoundAdapter(which=chosen, folder=folder, version=last_step(run_dir / METRICS_FILE) or None)
