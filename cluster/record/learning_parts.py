"""The record's parts that train: the tiny model's curves, the quickstart, GeoQuery. Each a function of its name."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from floe.cluster.contained.own_code import IMPORT_ROOT, module_command
from floe.cluster.environment import environment_of_floe
from floe.cluster.evaluation.before_after_table import EvaluationReport
from floe.cluster.evaluation.intervals import Interval
from floe.cluster.record.curve_check import rise_of
from floe.cluster.record.part_result import Figure, PartResult
from floe.cluster.record.parts import Setting
from floe.cluster.record.processes import run_to_end
from floe.cluster.run_folder.file_names import CONFIG_FILE, METRICS_FILE, REPORT_FILE
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json
from floe.configs.files.loading import load_config

CONFIGS = IMPORT_ROOT / "floe" / "configs"
SEEDS, QUICK_SEEDS = (1, 2, 3, 4, 5), (1, 2, 3)
QUICK_CURVE = ("run.num_steps=8", "rollout.questions_per_step=4", "data.max_train_questions=4")
QUICK_RUN = ("evaluation.max_questions=4", "evaluation.num_samples=2", "warm_start.max_train_questions=16")
# Half of docs/geoquery.md's steps, and one pass of its warm start.
GEOQUERY = ("run.num_steps=15", "warm_start.max_epochs=1")
TINY_GEOQUERY = ("model.path=embedded:tiny-qwen2", "model.max_context_tokens=512", "run.num_steps=1", *QUICK_RUN)
ALONE = "cluster.address=local"  # never on a Ray that others may use
LEAST_RISE = 0.08  # of mean reward, where the tiny model's rises by 0.13 to 0.21
LEAST_SAMPLED_RATIO = 1.2
REPORTS = TypeAdapter(EvaluationReport)


def curve(setting: Setting) -> PartResult:
    """Train `configs/curve.yaml` for several seeds; the healthy curves that later runs are compared with."""
    curves, size = {}, QUICK_CURVE if setting.is_quick else ()
    for seed in QUICK_SEEDS if setting.is_quick else SEEDS:
        run_dir = setting.work_dir / f"seed-{seed}"
        _train(setting, run_dir, CONFIGS / "curve.yaml", [f"run.seed={seed}", *size])
        curves[f"seed {seed}"] = mean_rewards(run_dir)
    bar = None if setting.is_quick else LEAST_RISE
    rises = [rise_of(rewards) for rewards in curves.values()]
    return PartResult(
        part="curve",
        is_complete=True,
        precision=precision_of_run(run_dir),
        notes=(f"configs/curve.yaml, seeds {', '.join(name.removeprefix('seed ') for name in curves)}",),
        figures=(Figure(name="smallest rise of the mean reward", value=min(rises), at_least=bar),),
        curves=curves,
    )


def quickstart(setting: Setting) -> PartResult:
    """Train the quickstart with seed 1."""
    name, overrides = ("smoke.yaml", QUICK_RUN) if setting.is_quick else ("quickstart.yaml", ())
    run_dir = setting.work_dir / "run"
    _train(setting, run_dir, CONFIGS / name, overrides)
    return _learned("quickstart", setting, run_dir, (f"configs/{name}, seed 1",), least_greedy_ratio=1.0)


def geoquery(setting: Setting) -> PartResult:
    """Train on GeoQuery with seed 1. Raises UserError where its folder is not given."""
    if setting.geoquery_dir is None or not setting.geoquery_dir.is_dir():
        raise UserError(
            f"GeoQuery is not at {setting.geoquery_dir or 'any given place'}: give the folder that 'floe prepare' "
            "wrote (docs/geoquery.md), as in make record GEOQUERY=prepared/geo."
        )
    run_dir = setting.work_dir / "run"
    overrides = TINY_GEOQUERY if setting.is_quick else GEOQUERY
    _train(
        setting, run_dir, CONFIGS / "geoquery_cpu.yaml", [f"data.prepared={setting.geoquery_dir.resolve()}", *overrides]
    )
    return _learned("geoquery", setting, run_dir, (f"configs/geoquery_cpu.yaml, seed 1, {' '.join(overrides)}",))


def mean_rewards(run_dir: Path) -> tuple[float, ...]:
    """Return the mean reward of each step of a run."""
    lines = (run_dir / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    return tuple(float(parsed_json(line)["reward_mean"]) for line in lines)


def precision_of_run(run_dir: Path) -> str:
    """Return the precision that the run took, of learner and engine."""
    config = load_config(run_dir / CONFIG_FILE)
    return precision_text(config.model.dtype, config.rollout.dtype)


def precision_text(learner: str, engine: str) -> str:
    return learner if learner == engine else f"{learner}, engine {engine}"


def _train(setting: Setting, run_dir: Path, config_file: Path, overrides: Sequence[str]) -> None:
    """Train a run, go on with one that an earlier call left, or do nothing for one that is done."""
    arguments = ["train", "--config", str(config_file), "--run-dir", str(run_dir), ALONE, *overrides]
    if (run_dir / CONFIG_FILE).is_file():
        arguments = ["train", "--resume", str(run_dir)]
    command = module_command("floe.cluster.cli", *arguments)
    environment = {**environment_of_floe(), "FLOE_HOME": str(setting.home_dir)}
    if code := run_to_end(command, environment, sys.stderr):
        raise UserError(f"The run in {run_dir} ended with code {code}: see the part's log for the reason.")


def _learned(
    part: str, setting: Setting, run_dir: Path, notes: tuple[str, ...], least_greedy_ratio: float | None = None
) -> PartResult:
    report = REPORTS.validate_python(json.loads((run_dir / REPORT_FILE).read_text(encoding="utf-8")))
    return PartResult(
        part=part,
        is_complete=True,
        precision=precision_of_run(run_dir),
        notes=(*notes, f"{report.num_questions} questions, {report.num_samples} samples"),
        figures=learning_figures(report, least_greedy_ratio, has_bars=not setting.is_quick),
        curves={"seed 1": mean_rewards(run_dir)},
    )


def learning_figures(
    report: EvaluationReport, least_greedy_ratio: float | None = None, *, has_bars: bool = True
) -> tuple[Figure, ...]:
    """Return what the last row of a table gained over the policy that it is compared with."""
    last, count = report.differences[-1], report.num_samples
    before, after = ({row.name: row for row in report.rows}[name] for name in (last.to, last.name))
    ratio = f"{last.name} / {last.to}"
    sampled = LEAST_SAMPLED_RATIO if has_bars else None
    return (
        Figure(name=f"{ratio}, greedy", value=_ratio(after.greedy, before.greedy),
               at_least=least_greedy_ratio if has_bars else None),
        Figure(name=f"{ratio}, mean of {count}", value=_ratio(after.sampled, before.sampled), at_least=sampled),
        Figure(name=f"{ratio}, pass@{count}", value=_ratio(after.pass_at_n, before.pass_at_n)),
        Figure(name=f"{last.name} less {last.to}, mean of {count}, low end of the interval", value=last.sampled.low,
               at_least=0.0 if has_bars else None),
        Figure(name=f"{ratio}, executes", value=_ratio(after.sampled_executes, before.sampled_executes)),
    )  # fmt: skip


def _ratio(after: Interval | None, before: Interval | None) -> float | None:
    """Return None where there is no ratio."""
    return None if after is None or before is None or not before.mean else after.mean / before.mean
