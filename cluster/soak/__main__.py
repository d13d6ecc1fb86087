"""`make soak`: a run that is disturbed every few seconds ends as the undisturbed one, and a long run stays flat."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from floe.cluster.contained.own_code import module_command
from floe.cluster.environment import environment_of_floe
from floe.cluster.run_folder.file_names import METRICS_FILE
from floe.cluster.run_folder.layout import config_of_run
from floe.cluster.soak.footprint import Footprint, Growth
from floe.cluster.soak.killer import KINDS, Killer
from floe.cluster.soak.run_records import Difference, difference
from floe.cluster.terminal.progress import Progress, make_console

CONFIG = "configs/smoke.yaml"
KILL_WAIT_S = (3.0, 9.0)
MAX_RUN_S = 3600.0
MAX_GROWTH = 1.1  # roles that must stay flat; the run folder may grow by its records


def main(
    steps: Annotated[int, typer.Option(help="Steps of the run that is disturbed.")] = 30,
    flat_steps: Annotated[int, typer.Option(help="Steps of the run that is watched.")] = 300,
    seed: Annotated[int, typer.Option(help="Seed of the killer.")] = 1,
) -> None:
    """Run the soak; return 1 when something differs or grows."""
    console = make_console()
    progress = Progress(make_console(stderr=True))
    with TemporaryDirectory(prefix="floe-soak-") as name:
        folder = Path(name)
        progress.phase("undisturbed run")
        _run(folder / "undisturbed", steps, 0).check()
        progress.phase("run that is hurt")
        hurt = _run(folder / "hurt", steps, 1000, *_precision_of(folder / "undisturbed"))
        killer = Killer(hurt.pid, seed, KILL_WAIT_S, lambda: _num_steps(folder / "hurt"))
        try:
            hurt.check()
        finally:
            killer.stop()
        found = difference(folder / "undisturbed", folder / "hurt")
        progress.phase("run that is watched")
        watched = _run(folder / "watched", flat_steps, 0)
        footprint = Footprint(watched.pid, folder / "watched")
        try:
            watched.check()
        finally:
            growths = footprint.stop()
    console.print(_hurt_table(killer.num_killed, found))
    console.print(_flat_table(growths, flat_steps))
    is_flat = all(growth.ratio <= MAX_GROWTH for name, growth in growths.items() if name != "run folder")
    raise typer.Exit(0 if found.is_none and is_flat else 1)


class _Started:
    """A running `floe train` in its own process group."""

    def __init__(self, run_dir: Path, arguments: list[str]) -> None:
        self._log = run_dir.with_suffix(".log")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                module_command("floe.cluster.cli", *arguments),
                stdout=log,
                stderr=log,
                env=environment_of_floe(),
                start_new_session=True,
            )
        self.pid = self._process.pid

    def check(self) -> None:
        """Wait for its end. Raises RuntimeError when it ended badly, and TimeoutExpired."""
        try:
            code = self._process.wait(timeout=MAX_RUN_S)
        finally:
            if self._process.poll() is None:
                os.killpg(self.pid, signal.SIGKILL)
        if code:
            last_lines = "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"the run of {self._log} ended with {code}:\n{last_lines}")


def _precision_of(run_dir: Path) -> tuple[str, ...]:
    """Return the precision that the run decided: measured again on a busy machine, it might be another."""
    decided = config_of_run(run_dir, ())
    return f"model.dtype={decided.model.dtype}", f"rollout.dtype={decided.rollout.dtype}"


def _run(run_dir: Path, num_steps: int, retries: int, *more: str) -> _Started:
    options = [f"run.num_steps={num_steps}", f"run.retries={retries}", "evaluation.enabled=false", *more]
    where = ["--config", CONFIG, "--run-dir", str(run_dir)]
    return _Started(run_dir, ["train", *where, "cluster.address=local", *options])


def _num_steps(run_dir: Path) -> int:
    path = run_dir / METRICS_FILE
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def _hurt_table(num_killed: Counter[str], found: Difference) -> Table:
    table = Table("the run that was hurt", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for kind in KINDS:
        table.add_row(f"killed: {kind}", str(num_killed[kind]))
    table.add_row("steps, questions", f"{found.num_steps}, {found.num_questions}")
    table.add_row("candidates lost, doubled", f"{found.num_lost}, {found.num_doubled}")
    differing = f"{found.num_metrics}{': ' if found.metric_names else ''}{', '.join(found.metric_names)}"
    table.add_row("metrics that differ, times aside", differing)
    table.add_row("final adapter, largest difference", f"{found.adapter:g}")
    return table


def _flat_table(growths: Mapping[str, Growth], num_steps: int) -> Table:
    table = Table(f"{num_steps} steps, MB", "early", "late", "ratio", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, growth in sorted(growths.items()):
        table.add_row(name, f"{growth.early_bytes / 1e6:.1f}", f"{growth.late_bytes / 1e6:.1f}", f"{growth.ratio:.2f}")
    return table


if __name__ == "__main__":
    typer.run(main)
