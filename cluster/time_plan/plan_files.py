"""Files of a run's time plan in its folder, and the moments that show how it compares."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from floe.cluster.run_folder.file_names import MARKS_FILE, PLAN_FILE
from floe.cluster.time_plan.forecast import Mark
from floe.cluster.time_plan.plan import TimePlan
from floe.configs.files.foreign_files import parsed_json, read_regular_text


def start_record(run_dir: Path, plan: TimePlan) -> None:
    """Write the plan of a run's process, in place of an earlier process's plan."""
    (run_dir / PLAN_FILE).write_text(plan.to_json(), encoding="utf-8")
    (run_dir / MARKS_FILE).write_text("", encoding="utf-8")


def keep_mark(run_dir: Path, mark: Mark) -> None:
    with (run_dir / MARKS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(mark)) + "\n")


def read_plan(run_dir: Path) -> TimePlan:
    """Read the plan. Raises OSError where there is none, ValueError for a file that holds none."""
    return TimePlan.from_json(read_regular_text(run_dir / PLAN_FILE))


def read_marks(run_dir: Path) -> list[Mark]:
    """Read the marks. Raises as `read_plan` does. A last line that a crash cut off is left out."""
    lines = read_regular_text(run_dir / MARKS_FILE).split("\n")[:-1]
    try:
        return [Mark(**parsed_json(line)) for line in lines]
    except TypeError as fault:
        raise ValueError(f"no record of a run's time: {fault}") from fault
