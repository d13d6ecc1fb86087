"""Trains each arm with each seed in a separate process; finished runs stay, and interrupted ones continue."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from floe.cluster.ablation.arms import Arm
from floe.cluster.ablation.records import ArmRecord, changed_settings, known_record, record_name
from floe.cluster.checkpoints.resume_rules import changed_keys
from floe.cluster.contained.own_code import module_command
from floe.cluster.environment import environment_of_floe
from floe.cluster.evaluation.saved_evaluation import EVALUATIONS_FOLDER
from floe.cluster.plugins.checks import check_plugins
from floe.cluster.preparation.clock import with_clock
from floe.cluster.run_folder.file_names import POLICY_FILE, REPORT_FILE
from floe.cluster.run_folder.layout import config_of_run, is_run
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig
from floe.configs.sections.reward_sections import AUTO_CLOCK

START = "start"  # the warm start's folder among a run's evaluations


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRun:
    arm: Arm
    seed: int
    config: RunConfig
    run_dir: Path
    record: ArmRecord | None = None  # of an arm that was finished before, perhaps on another machine

    @property
    def is_finished(self) -> bool:
        return self.record is not None or (self.run_dir / REPORT_FILE).is_file()


def planned_runs(
    config_file: Path, overrides: Sequence[str], arms: Sequence[Arm], num_seeds: int, out: Path, records: Path
) -> list[ArmRun]:
    """Return runs seed by seed, so that an interrupted ablation has whole seeds; the configuration has the first.

    An arm with a record in the folder `records` is finished. Raises UserError for a configuration that has no budget of
    tokens or no evaluation, and for a folder that holds another ablation's run or record.
    """
    base = load_config(config_file, overrides)
    if base.run.max_generated_tokens is None:
        raise UserError(
            "run.max_generated_tokens is not set, but an ablation gives every design the same number of tokens: set it."
        )
    if not base.evaluation.enabled:
        raise UserError("evaluation.enabled is false, but an ablation compares accuracies: set it to true.")
    runs = []
    for seed in range(base.run.seed, base.run.seed + num_seeds):
        for arm in arms:
            given = [*overrides, *arm.overrides, f"run.seed={seed}"]
            run = ArmRun(
                arm=arm,
                seed=seed,
                config=load_config(config_file, given),
                run_dir=(out / record_name(arm.name, seed)).expanduser().resolve(),
                record=known_record(records, arm.name, seed),
            )
            check_plugins(run.config)
            _check_same_run(run)
            runs.append(run)
    return runs


def shared_clock(config_file: Path, overrides: Sequence[str], out: Path) -> str:
    """Return what SQL gets for the present time in every arm: the existing runs' clock, or the configuration's."""
    for folder in sorted(out.expanduser().glob("*-seed*")):
        if is_run(folder) and (clock := config_of_run(folder, ()).reward.clock) != AUTO_CLOCK:
            return clock
    return with_clock(load_config(config_file, overrides)).reward.clock


def train(run: ArmRun, others: Sequence[ArmRun], config_file: Path, overrides: Sequence[str]) -> None:
    """Train the run; the process prints to this one's standard error. Raises UserError when it fails."""
    if run.is_finished:
        return
    if is_run(run.run_dir):
        arguments = ["--resume", str(run.run_dir)]
    else:
        _copy_start(run, others)
        given = [*overrides, *run.arm.overrides, *shared_precision(others), f"run.seed={run.seed}"]
        arguments = ["--config", str(config_file), "--run-dir", str(run.run_dir), *given]
    command = module_command("floe.cluster.cli", "train", *arguments)
    done = subprocess.run(command, stdout=sys.stderr, env=environment_of_floe(), check=False)
    if done.returncode:
        raise UserError(
            f"The run of {run.arm.name} with seed {run.seed} ended with {done.returncode}, see above: fix that, and "
            "give the same command again, which goes on from there."
        )


def shared_precision(runs: Sequence[ArmRun]) -> list[str]:
    """Return the precisions that the first of the runs decided, as overrides: a new measurement might choose others."""
    for run in runs:
        if is_run(run.run_dir):
            decided = config_of_run(run.run_dir, ())
            return [f"model.dtype={decided.model.dtype}", f"rollout.dtype={decided.rollout.dtype}"]
    return []


def _check_same_run(run: ArmRun) -> None:
    if run.record is not None and (lines := changed_settings(run.record, run.config)):
        raise UserError(
            f"The record of {run.record.name} is another run's ({', '.join(lines)}): give --records another folder, or "
            "remove it."
        )
    if not is_run(run.run_dir):
        return
    saved = config_of_run(run.run_dir, ()).model_dump(mode="json")
    if changed := [change for change in changed_keys(saved, run.config) if change.is_refused]:
        raise UserError(
            f"{run.run_dir} holds another run ({', '.join(map(str, changed))}): choose another --out, or remove it."
        )


def _copy_start(run: ArmRun, others: Sequence[ArmRun]) -> None:
    """Copy the adapter from which every arm of a seed starts; its answers are the same too, so they are made once."""
    for other in others:
        evaluated = other.run_dir / EVALUATIONS_FOLDER / START
        if other is not run and other.seed == run.seed and (evaluated / POLICY_FILE).is_file():
            shutil.copytree(evaluated, run.run_dir / EVALUATIONS_FOLDER / START, dirs_exist_ok=True)
            return
