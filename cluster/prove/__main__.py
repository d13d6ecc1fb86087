"""One GRPO step of Qwen2.5-Coder-3B's shape, random weights, bfloat16, engine and learner within 24 GB; on CPU.

Forward, backward, optimiser step, broadcast and its proofs all really run. Only the reward is a stand-in
(`reward.design: proof`), because random weights answer nothing right and a group needs variance to learn from.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from floe.cluster.commands.paths import given_path
from floe.cluster.contained.own_code import module_command
from floe.cluster.environment import environment_of_floe, environment_overrides
from floe.cluster.prove.peak import PeakWatch
from floe.cluster.prove.random_model import random_model
from floe.cluster.run_folder.file_names import METRICS_FILE
from floe.cluster.terminal.progress import Progress, make_console
from floe.cluster.terminal.shown_text import say
from floe.cluster.time_plan.durations import duration
from floe.configs.errors import EXIT_CODE_USER_ERROR, UserError
from floe.configs.files.loading import load_config

CONFIG = Path(__file__).parent.parent.parent / "configs" / "prove_24gb.yaml"
LIMIT_GB = 24.0
MAX_RUN_S = 3 * 3600.0
PHASES = (
    "rollout_s",
    "reward_s",
    "handover_s",
    "learn_s",
    "sync_export_s",
    "sync_install_s",
    "sync_canary_s",
    "step_s",
)


def main(
    tokenizer: Annotated[
        Path, typer.Option(parser=given_path, help="Folder of the tokenizer and config-<size>-instruct.json.")
    ],
    size: Annotated[str, typer.Option(help="Size of the shape: 0.5b, 1.5b or 3b.")] = "3b",
    limit_gb: Annotated[float, typer.Option(help="The run is ended when its processes hold more.")] = LIMIT_GB,
    run_dir: Annotated[Path | None, typer.Option(parser=given_path, help="Where the run's files go.")] = None,
) -> None:
    """Run the proof; return 1 when the run passes the limit or does not learn."""
    console, progress = make_console(), Progress(make_console(stderr=True))
    config_file = tokenizer / f"config-{size}-instruct.json"
    if not config_file.is_file():
        raise UserError(f"There is no {config_file}: give --tokenizer, the folder of Qwen2.5-Coder's tokenizer.")
    home_dir = load_config(CONFIG, environment_overrides()).run.home_dir
    progress.phase("random weights")
    model_dir = random_model(home_dir / "models" / f"random-qwen2.5-coder-{size}", config_file, tokenizer)
    run_dir = run_dir or home_dir / "runs" / f"prove-{size}-{time.strftime('%Y%m%d-%H%M%S')}"
    progress.phase("one step")
    arguments = ["train", "--config", str(CONFIG), "--run-dir", str(run_dir), f"model.path={model_dir}"]
    driver = subprocess.Popen(
        module_command("floe.cluster.cli", *arguments), stdout=sys.stderr, env=environment_of_floe()
    )
    watch = PeakWatch(driver.pid, int(limit_gb * 1e9))
    try:
        code = driver.wait(timeout=MAX_RUN_S)
    finally:
        driver.kill()
        peak = watch.stop()
    table = Table(f"GB, of {limit_gb:g}", "most", box=box.SIMPLE_HEAD, pad_edge=False)
    for role, num_bytes in sorted(peak.by_role_bytes.items(), key=lambda item: -item[1]):
        table.add_row(role, f"{num_bytes / 1e9:.2f}")
    table.add_row("all at one time", f"{peak.whole_bytes / 1e9:.2f}")
    console.print(table)
    if watch.has_passed_limit or code:
        console.print("passed the limit" if watch.has_passed_limit else f"the run ended with {code}")
        raise typer.Exit(1)
    (record,) = (json.loads(line) for line in (run_dir / METRICS_FILE).read_text().splitlines())
    console.print(", ".join(f"{name.removesuffix('_s')} {duration(record[name])}" for name in PHASES))
    names = ("reward_mean", "zero_variance_share", "grad_norm", "trained_tokens", "sync_bytes", "sync_canary_kl")
    console.print(", ".join(f"{name} {record[name]:.4g}" for name in names))
    raise typer.Exit(0 if record["grad_norm"] > 0 else 1)


def run() -> None:
    """Run the command; a UserError becomes one sentence and exit code 2."""
    try:
        typer.run(main)
    except UserError as error:
        say(str(error), to_stderr=True)
        sys.exit(EXIT_CODE_USER_ERROR)


if __name__ == "__main__":
    run()
