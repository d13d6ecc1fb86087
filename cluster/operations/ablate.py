"""`floe ablate`: the same start, questions and tokens under several reward designs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from floe.cluster.ablation.arm_runs import ArmRun, planned_runs, shared_clock, train
from floe.cluster.ablation.arms import arms_of
from floe.cluster.ablation.judged_rollouts import record_of
from floe.cluster.ablation.plot import ablation_page
from floe.cluster.ablation.records import ArmRecord, check_blocks, check_machine, in_order, read_records, write_record
from floe.cluster.ablation.report import AblationReport, ablation_report
from floe.cluster.ablation.tables import render
from floe.cluster.machine.processor import processor_line
from floe.cluster.terminal.progress import Progress, make_console
from floe.configs.errors import UserError

TABLE_WIDTH = 190
RESULT_FILE, PLOT_FILE, RECORDS_FOLDER = "ablation.json", "ablation.html", "records"
NUM_RESAMPLES, BOOTSTRAP_SEED = 10_000, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationPlan:
    """The arms to train; `records` is where finished arms are kept, and found again."""

    config_file: Path
    overrides: Sequence[str]
    rewards: Sequence[str]
    variants: Sequence[str]
    num_seeds: int
    out: Path
    records: Path


def ablate(plan: AblationPlan) -> None:
    """Train what is not trained yet, record each arm when it is finished, and show all. Raises UserError."""
    progress = Progress(make_console(stderr=True))
    clock = shared_clock(plan.config_file, plan.overrides, plan.out)
    overrides = [f"reward.clock={json.dumps(clock)}", *plan.overrides]
    arms = arms_of(plan.rewards, plan.variants)
    runs = planned_runs(plan.config_file, overrides, arms, plan.num_seeds, plan.out, plan.records)
    records = []
    for number, run in enumerate(runs, start=1):
        state = "is finished already" if run.is_finished else f"in {run.run_dir}"
        progress.phase(f"run {number} of {len(runs)}: {run.arm.name}, seed {run.seed}, {state}")
        if not run.is_finished:
            _check_machine(run, runs)
            train(run, runs, plan.config_file, overrides)
        records.append(_recorded(run, plan.records, progress))
        check_blocks(records)
    _show(in_order(records, [arm.name for arm in arms]), plan.out, progress)


def show_records(records: Path, out: Path | None, first: str = "") -> None:
    """Show the table of the arms that a folder has records of; nothing is trained.

    `first` is the arm that the others are compared with; empty: the first by name. Raises UserError.
    """
    found = read_records(records)
    check_blocks(found)
    arms = sorted({one.measures.arm for one in found})
    if first and first not in arms:
        raise UserError(f"--first is {first}, but the arms in {records} are {', '.join(arms)}: give one of them.")
    _show(in_order(found, [first]), out, Progress(make_console(stderr=True)))


def _check_machine(run: ArmRun, runs: Sequence[ArmRun]) -> None:
    """Refuse to train an arm where the recorded ones of its seed were not trained. Raises UserError."""
    for other in runs:
        if other.seed == run.seed and other.record is not None:
            check_machine(other.record, processor_line())


def _recorded(run: ArmRun, folder: Path, progress: Progress) -> ArmRecord:
    """Return the finished run's record, which is made where there is none."""
    if run.record is not None:
        return run.record
    progress.phase(f"judging all rollouts of {run.arm.name}, seed {run.seed}, by execution")
    record = record_of(run)
    progress.note(f"recorded in {write_record(folder, record)}")
    return record


def _show(records: Sequence[ArmRecord], out: Path | None, progress: Progress) -> None:
    machines = [f"{one.processor}, in {one.precision}" for one in records]
    report = ablation_report([one.measures for one in records], NUM_RESAMPLES, BOOTSTRAP_SEED, machines)
    console = make_console()
    console.width = max(console.width, TABLE_WIDTH)
    render(report, console)
    if out is not None:
        _write(report, out, progress)


def _write(report: AblationReport, out: Path, progress: Progress) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / RESULT_FILE).write_text(report.to_json(), encoding="utf-8")
    (out / PLOT_FILE).write_text(ablation_page(report), encoding="utf-8")
    progress.note(f"written to {out / RESULT_FILE} and {out / PLOT_FILE}")
