"""`floe bench time`: planned and measured seconds of a run that has ended, from its folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.table import Table

from floe.cluster.run_folder.file_names import PLAN_FILE
from floe.cluster.terminal.progress import make_console
from floe.cluster.time_plan.comparison import Comparison, compare
from floe.cluster.time_plan.plan_files import read_marks, read_plan
from floe.configs.errors import UserError

START_FACTOR, LATE_FACTOR = 1.5, 1.3


def bench_time(run_dir: Path, as_json: bool) -> None:
    """Print the comparison, as a table or as JSON.

    Raises UserError for a folder without a plan or a run without an end.
    """
    try:
        found = compare(read_plan(run_dir), read_marks(run_dir))
    except OSError as fault:
        raise UserError(
            f"There is no {PLAN_FILE} in {run_dir} ({fault.strerror}): give the folder of a run on a CPU."
        ) from fault
    except ValueError as fault:
        raise UserError(
            f"The time record in {run_dir} can't be compared: {fault}; give a run that has ended."
        ) from fault
    if as_json:
        print(json.dumps(asdict(found) | {"worst_from_third_step": found.worst_from_third_step}, indent=2))
    else:
        _render(found)


def _render(found: Comparison) -> None:
    table = Table("phase", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("planned, s", "seen, s", "planned / seen"):
        table.add_column(heading, justify="right")
    for one in found.phases:
        table.add_row(one.phase, f"{one.planned_s:.1f}", f"{one.seen_s:.1f}", f"{one.ratio:.2f}")
    console = make_console()
    console.print(table)
    console.print(f"whole {found.whole_s:.1f} s; expected over seen: {_verdict(found.ratio_at_start, START_FACTOR)}")
    worst = found.worst_from_third_step
    if worst is not None:
        console.print(f"from the third step on, the worst: {_verdict(worst, LATE_FACTOR)}")


def _verdict(ratio: float, factor: float) -> str:
    is_within = 1 / factor <= ratio <= factor
    return f"{ratio:.2f}, {'within' if is_within else 'NOT within'} a factor of {factor:g}"
