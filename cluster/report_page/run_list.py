"""One line for each run, as `floe runs` prints it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from floe.cluster.run_folder.status import RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Greedy accuracy between 0 and 1. `split` is `tune` for the best while training, or that of the run's table."""

    value: float
    num_questions: int
    split: str
    adapter_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run of the list; `started` is in Unix seconds: the start of the driver, which `--resume` starts anew."""

    name: str
    folder: str
    state: str
    is_driver_alive: bool | None  # None where that can't be known from here
    num_steps_done: int
    num_steps: int | None
    best: Accuracy | None
    started: float

    @property
    def is_open(self) -> bool:
        """True for a state that is no end, so that a driver that is gone may have left it."""
        return self.is_driver_alive is None and self.state in [one.value for one in RunState if not one.is_end]


def to_json(runs: Sequence[RunSummary]) -> str:
    """Return indented JSON text."""
    return json.dumps([asdict(run) for run in runs], indent=2, allow_nan=False)


def render(runs: Sequence[RunSummary], console: Console) -> None:
    """Print the table, with names that fold rather than being cut."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold")
    for column in ("state", "steps", "best accuracy", "started"):
        table.add_column(column, justify="right" if column == "steps" else "left", no_wrap=True)
    for run in runs:
        total = "?" if run.num_steps is None else str(run.num_steps)
        started = datetime.fromtimestamp(run.started).strftime("%Y-%m-%d %H:%M")
        table.add_row(
            Text(run.name), run.state + "?" * run.is_open, f"{run.num_steps_done}/{total}", _said(run.best), started
        )
    console.print(table)


def _said(best: Accuracy | None) -> str:
    if best is None:
        return "-"
    version = "" if best.adapter_version is None else f", version {best.adapter_version}"
    return f"{100 * best.value:.1f} % of {best.num_questions} {best.split}{version}"
