"""`floe runs`: the runs of some folders, the newest first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from floe.cluster.evaluation.results import last_step, read_best, read_report
from floe.cluster.report_page.run_list import Accuracy, RunSummary, render, to_json
from floe.cluster.run_folder.file_names import CONFIG_FILE, METRICS_FILE
from floe.cluster.run_folder.layout import config_of_run
from floe.cluster.run_folder.status_file import found_status, is_driver_alive
from floe.cluster.terminal.progress import make_console
from floe.cluster.terminal.shown_text import say
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig


def runs(folders: Sequence[Path], home_runs: Path, as_json: bool) -> None:
    """Print the runs of the folders, or of `home_runs` without any. Raises UserError for a missing folder."""
    default = [home_runs] if home_runs.is_dir() else []
    found = [summary_of(run_dir) for run_dir in run_dirs(folders or default)]
    found.sort(key=lambda run: (-run.started, run.name))
    if as_json:
        print(to_json(found))
    elif found:
        render(found, make_console())
    else:
        say(f"There is no run in {', '.join(map(str, folders or [home_runs]))}.")


def run_dirs(folders: Iterable[Path]) -> list[Path]:
    """Return each folder that holds a run's configuration, or its subfolders that do.

    Raises UserError for a path that is not a folder.
    """
    found = []
    for folder in folders:
        path = folder.expanduser().resolve()
        if not path.is_dir():
            raise UserError(f"There is no folder {path}: give a run's folder, or one that holds runs.")
        choices = [path] if (path / CONFIG_FILE).is_file() else sorted(path.iterdir())
        found += [one for one in choices if (one / CONFIG_FILE).is_file()]
    return list(dict.fromkeys(found))


def summary_of(run_dir: Path) -> RunSummary:
    """Return a run's summary; values that can't be read are left empty, because one bad run should not end a list."""
    status, config = found_status(run_dir), _config(run_dir)
    num_steps = None if config is None else config.run.known_num_steps
    return RunSummary(
        name=run_dir.name,
        folder=str(run_dir),
        state="not known" if status is None else status.state.value,
        is_driver_alive=None if status is None else is_driver_alive(status),
        num_steps_done=last_step(run_dir / METRICS_FILE),
        num_steps=num_steps if status is None else status.num_steps or num_steps,
        best=_best(run_dir, config),
        started=(run_dir / CONFIG_FILE).stat().st_mtime if status is None else status.started,
    )


def _config(run_dir: Path) -> RunConfig | None:
    try:
        return config_of_run(run_dir, ())
    except UserError:
        return None


def _best(run_dir: Path, config: RunConfig | None) -> Accuracy | None:
    """Return the best accuracy: while training where the run evaluated, else the table's last greedy row."""
    best = read_best(run_dir)
    if best is not None and math.isfinite(best.greedy):
        return Accuracy(
            value=best.greedy, num_questions=best.num_questions, split="tune", adapter_version=best.adapter_version
        )
    try:
        report = read_report(run_dir)
    except ValueError:
        return None
    asked = [] if report is None else [row.greedy for row in report.rows if row.greedy is not None]
    if not asked:
        return None
    split = "test" if config is None else config.evaluation.split
    return Accuracy(value=asked[-1].mean, num_questions=asked[-1].num_questions, split=split)
