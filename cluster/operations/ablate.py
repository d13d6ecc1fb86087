"""`floe ablate`: the same start, questions and tokens under several reward designs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from floe.cluster.ablation.arm_runs import planned_runs, shared_clock, train
from floe.cluster.ablation.arms import arms_of
from floe.cluster.ablation.judged_rollouts import measures_of
from floe.cluster.ablation.plot import ablation_page
from floe.cluster.ablation.report import ablation_report
from floe.cluster.terminal.progress import Progress, make_console

TABLE_WIDTH = 168
RESULT_FILE, PLOT_FILE = "ablation.json", "ablation.html"


def ablate(
    config_file: Path,
    overrides: Sequence[str],
    rewards: Sequence[str],
    variants: Sequence[str],
    num_seeds: int,
    out: Path,
) -> None:
    """Train what is not trained yet, then measure all; the table goes to stdout. Raises UserError."""
    progress = Progress(make_console(stderr=True))
    overrides = [f"reward.clock={json.dumps(shared_clock(config_file, overrides, out))}", *overrides]
    runs = planned_runs(config_file, overrides, arms_of(rewards, variants), num_seeds, out)
    for number, run in enumerate(runs, start=1):
        state = "is finished already" if run.is_finished else f"in {run.run_dir}"
        progress.phase(f"run {number} of {len(runs)}: {run.arm.name}, seed {run.seed}, {state}")
        train(run, runs, config_file, overrides)
    progress.phase("judging all rollouts by execution")
    report = ablation_report([measures_of(run) for run in runs], runs[0].config.evaluation.num_bootstrap, runs[0].seed)
    (out / RESULT_FILE).write_text(report.to_json(), encoding="utf-8")
    (out / PLOT_FILE).write_text(ablation_page(report), encoding="utf-8")
    console = make_console()
    console.width = max(console.width, TABLE_WIDTH)
    report.render(console)
    progress.note(f"written to {out / RESULT_FILE} and {out / PLOT_FILE}")
