"""Parts 8 and 11: whole runs by `floe train`: the placements, each with its engine killed once, and the real model."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from floe.cluster.contained.own_code import module_command
from floe.cluster.environment import environment_of_floe
from floe.cluster.prove.gpu.cuda import UsedPeak, used_bytes
from floe.cluster.prove.gpu.engine_under_proof import SMOKE, smoke_overrides
from floe.cluster.prove.gpu.findings import Figures, Line, Setting, at_least, at_most, told
from floe.cluster.prove.gpu.full_shape import (
    FULL_CONFIG,
    GIB,
    OF_PROOF,
    full_overrides,
    matmul_flop_per_s,
    random_weights,
    update_flop,
)
from floe.cluster.run_folder.file_names import METRICS_FILE
from floe.cluster.soak.killer import kill_one
from floe.cluster.time_plan.plan import repeated_passes
from floe.configs.files.loading import load_config
from floe.configs.sections.colocation import Colocation

NUM_STEPS = 4
QUICK_PLACEMENTS = (Colocation.LEARNER_OFFLOADS,)  # the placement that gives up all that the others do
LOOK_EVERY_S = 0.1
RUN_LIMIT_S = 560.0
# Random weights never end a completion: with the configuration's own limits a step would be of half a million tokens.
STEP = ("rollout.questions_per_step=8", "rollout.max_new_tokens=512")
QUICK_STEP = ("rollout.questions_per_step=4", "rollout.max_new_tokens=256")
MAX_MISMATCH_NATS = 0.05
SHARED = ("rollout.num_gpus=0.5", "learner.num_gpus=0.5", "rollout.gpu_memory_share=0.3")


def prove_placements(setting: Setting) -> Iterator[Line]:
    """Train the smoke configuration, without its warm start and its evaluations."""
    is_short = setting.is_quick and setting.device == "cuda"
    for colocation in QUICK_PLACEMENTS if is_short else Colocation:
        run_dir = setting.scratch_dir / colocation.value
        started_s = time.monotonic()
        num_killed = _train(SMOKE, run_dir, placement_overrides(setting, colocation), kills_engine=True)
        seconds = time.monotonic() - started_s
        records = _records(run_dir)
        yield told(f"{colocation.value}: seconds of the run, with a second engine", f"{seconds:.0f}")
        yield at_least(f"{colocation.value}: engines killed", num_killed, 1)
        yield at_least(f"{colocation.value}: steps done", len(records), NUM_STEPS)
        mismatch = max(one["logprob_mismatch_mean"] for one in records)
        yield at_most(f"{colocation.value}: engine against learner", mismatch, MAX_MISMATCH_NATS, " nats")


def placement_overrides(setting: Setting, colocation: Colocation) -> list[str]:
    return [
        *smoke_overrides(setting),
        *(SHARED if setting.device == "cuda" else ()),
        f"run.num_steps={NUM_STEPS}",
        f"cluster.colocation={colocation.value}",
        "warm_start.enabled=false",
        "evaluation.enabled=false",
    ]


def _train(config_file: Path, run_dir: Path, overrides: Sequence[str], kills_engine: bool) -> int:
    """Return how many engines were killed after the first step. Raises RuntimeError when the run ends badly."""
    arguments = ["train", "--config", str(config_file), "--run-dir", str(run_dir), *overrides]
    process = subprocess.Popen(
        module_command("floe.cluster.cli", *arguments), stdout=sys.stderr, env=environment_of_floe()
    )
    num_killed, deadline_s = 0, time.monotonic() + RUN_LIMIT_S
    try:
        while process.poll() is None and time.monotonic() < deadline_s:
            time.sleep(LOOK_EVERY_S)
            if kills_engine and not num_killed and _records(run_dir):
                num_killed += kill_one(psutil.Process(process.pid), "rollout actor", random.Random(0))
        if process.poll() is None:
            raise RuntimeError(f"the run did not end within {RUN_LIMIT_S:.0f} s")
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}")
    return num_killed


def _records(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / METRICS_FILE
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def prove_training(setting: Setting) -> Iterator[Line | Figures]:
    """Train the 24 GB configuration with random weights, on the demo's questions and with the proof's reward."""
    model_dir = random_weights(setting)
    run_dir = setting.scratch_dir / "run"
    num_steps = 1 if setting.is_quick else 3
    overrides = training_overrides(setting, model_dir, num_steps)
    config = load_config(FULL_CONFIG, overrides)
    limit_flop_per_s = matmul_flop_per_s()
    with ExitStack() as stack:
        peak = stack.enter_context(UsedPeak(used_bytes()))
        _train(FULL_CONFIG, run_dir, overrides, kills_engine=False)
    records = _records(run_dir)
    yield at_least("steps done", len(records), num_steps)
    for one in records:
        step = f"step {one['step']}"
        yield told(
            f"{step}: generated", f"{one['tokens_per_s']:,.0f} tokens/s in the rollout's {one['rollout_s']:.1f} s"
        )
        share = update_flop(config, model_dir, one) / one["learn_s"] / limit_flop_per_s
        # Of several steps the last counts: the first compiles and warms up.
        whole = share * repeated_passes(config)
        yield Figures(values={"matmul_flop_per_s": limit_flop_per_s, "learner_rate_share": whole})
        yield told(f"{step}: update", f"{one['learn_s']:.1f} s, {100 * share:.0f} % of the card's own matmul rate")
        yield told(f"{step}: handover", f"{one['handover_s']:.2f} s")
        yield at_most(f"{step}: engine against learner", one["logprob_mismatch_mean"], MAX_MISMATCH_NATS, " nats")
    yield told("most of the card", f"{peak.num_bytes / GIB:.2f} GiB")


def training_overrides(setting: Setting, model_dir: Path, num_steps: int) -> list[str]:
    size = QUICK_STEP if setting.is_quick else STEP
    return [*full_overrides(setting, model_dir), *OF_PROOF, *size, f"run.num_steps={num_steps}"]
