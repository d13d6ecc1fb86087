"""`floe bench trl`: whole GRPO steps of floe and of trl's trainer on the same questions, interleaved."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.random_streams import questions_of_step
from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.bench.choice import EVERYTHING, Choice
from floe.cluster.bench.rollout_ways import start_way
from floe.cluster.bench.targets import targets_table
from floe.cluster.bench.whole_step.floe_steps import FloeSteps
from floe.cluster.bench.whole_step.step_figures import FLOE, PHASES, TRL_GENERATE, TRL_VLLM, StepTimes, WholeSteps
from floe.cluster.machine.cores import num_cores
from floe.cluster.machine.processor import processor_line
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.messages import Question
from floe.cluster.models.model_folder import model_folder
from floe.cluster.precision.resolved import with_precision
from floe.cluster.questions.fitting import encoder_of_run
from floe.cluster.ray_actors.placement import ray_session
from floe.cluster.terminal.progress import Progress, make_console
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

NUM_STEPS = 3
WHY_NOT_VLLM = (
    "vLLM's build for processors packs its weights after loading and drops them, so that trl can't load others into it"
)
# The path of the quickstart, with the policy left where it is: every step does the same work.
BENCH_OVERRIDES = (
    "prompt.style=compact",
    "rollout.temperature=1.0",
    "rollout.questions_per_step=4",
    "rollout.max_new_tokens=48",
    "rollout.kv_cache_gib=1",
    "learner.learning_rate=1e-7",
    "learner.schedule=constant",
    "learner.warmup_share=0",
    "learner.max_pack_tokens=4096",
    "model.max_context_tokens=512",
    "algorithm.kl_coefficient=0",
)

Step = Callable[[Sequence[Question]], StepTimes]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    config: RunConfig
    model_dir: Path
    databases_dir: Path
    encoder: PromptEncoder
    steps: tuple[tuple[Question, ...], ...]  # the warm-up's first

    @property
    def longest_tokens(self) -> int:
        return max(len(self.encoder.prompt(question)) for step in self.steps for question in step)


def bench_trl(config: RunConfig, as_json: bool, choice: Choice = EVERYTHING) -> None:
    """Print the table, or JSON; progress goes to stderr. Raises UserError where trl is not installed."""
    found = measured_steps(config, choice)
    if as_json:
        print(json.dumps(found.record(), indent=2))
    else:
        _render(found)


def measured_steps(config: RunConfig, choice: Choice = EVERYTHING) -> WholeSteps:
    """Measure floe and the chosen ways, in turns, each on the same questions.

    Raises UserError where trl is not installed. A way that can't start here is left out, with its reason.
    """
    if importlib.util.find_spec("trl") is None:
        raise UserError("The package trl is not installed: install floe with its extra dev, as 'make setup' does.")
    progress = Progress(make_console(stderr=True))
    with redirect_stdout(sys.stderr), TemporaryDirectory(prefix="floe-bench-") as folder:
        setting = _setting(config, choice.num_rounds or NUM_STEPS)
        with ray_session(setting.config.cluster, "floe-bench"):
            return _measured(setting, choice, Path(folder), progress)


def _setting(config: RunConfig, num_steps: int) -> _Setting:
    config = with_precision(config, lambda: shape_of(config)).config
    model_dir = model_folder(config, config.run.home_dir / "demo")
    sets = sets_of_run(config)
    seed, count = config.run.seed, config.rollout.questions_per_step
    return _Setting(
        config=config,
        model_dir=model_dir,
        databases_dir=sets.databases_dir,
        encoder=encoder_of_run(config, model_dir, sets.databases_dir),
        steps=tuple(tuple(questions_of_step(sets.train, 1 + step, count, seed)) for step in range(num_steps + 1)),
    )


def _measured(setting: _Setting, choice: Choice, folder: Path, progress: Progress) -> WholeSteps:
    progress.phase("start of the actors")
    first = setting.steps[0][0]
    floe = FloeSteps(setting.config, setting.model_dir, setting.databases_dir, setting.encoder, first)
    ways: dict[str, Step] = {FLOE: floe.step}
    left_out: dict[str, str] = {}
    progress.phase("warm-up")
    ways[FLOE](setting.steps[0])
    for name, with_vllm in ((TRL_GENERATE, False), (TRL_VLLM, True)):
        if not choice.wants(name):
            continue
        try:
            step = _trl_step(setting, folder / name, with_vllm)
            step(setting.steps[0])
            ways[name] = step
        except ray.exceptions.RayError as fault:
            if not with_vllm:
                raise
            left_out[name] = f"{_last_line(fault)} ({WHY_NOT_VLLM})"
            progress.note(f"{name} can't make a step here: {left_out[name]}")
    times = _timed(setting, ways, progress)
    floe.stop()
    return WholeSteps(notes=_notes(setting), ways=times, left_out=left_out)


def _timed(setting: _Setting, ways: Mapping[str, Step], progress: Progress) -> dict[str, tuple[StepTimes, ...]]:
    times: dict[str, list[StepTimes]] = {name: [] for name in ways}
    for number, questions in enumerate(setting.steps[1:], start=1):
        progress.phase(f"step {number} of {len(setting.steps) - 1}")
        for name in list(ways) if number % 2 == 0 else list(ways)[::-1]:
            times[name].append(ways[name](questions))
            progress.note(f"{name}: {times[name][-1].step_s:.2f} s, {times[name][-1].num_tokens} tokens")
    return {name: tuple(found) for name, found in times.items()}


def _trl_step(setting: _Setting, scratch_dir: Path, with_vllm: bool) -> Step:
    from floe.cluster.bench.whole_step.trl_steps import TrlSteps

    rows = [_row(setting.encoder, question) for step in setting.steps for question in step]
    actor = start_way(
        TrlSteps, setting.config, setting.config, setting.model_dir, setting.databases_dir, rows, scratch_dir,
        setting.longest_tokens, with_vllm,
    )  # fmt: skip

    def step(_: Sequence[Question]) -> StepTimes:
        found: StepTimes = ray.get(actor.step.remote())
        return found

    return step


def _row(encoder: PromptEncoder, question: Question) -> Mapping[str, Any]:
    return {
        "prompt": encoder.sent_text(question),
        "db_id": question.database_id,
        "gold_sql": list(question.gold_sql),
        "question": question.text,
        "evidence": question.evidence,
    }


def _last_line(fault: Exception) -> str:
    return next((line for line in reversed(str(fault).splitlines()) if line.strip()), type(fault).__name__).strip()


def _notes(setting: _Setting) -> tuple[str, ...]:
    config = setting.config
    return (
        processor_line(),
        f"{config.model.path}, {num_cores()} cores, {config.model.dtype}, LoRA of rank {config.lora.rank}; each step: "
        f"{config.rollout.questions_per_step} questions x {config.rollout.group_size} candidates, prompts of up to "
        f"{setting.longest_tokens} tokens, completions of up to {config.rollout.max_new_tokens}. Each trainer samples "
        "its own completions of the same policy; every group is given a gradient.",
        f"trl {importlib.metadata.version('trl')}: GRPOTrainer.train() with floe.SqlReward, loss dapo, LoRA by PEFT, "
        "its LM head over completions only, no gradient checkpointing, no reference.",
    )


def _render(found: WholeSteps) -> None:
    from rich import box
    from rich.table import Table

    console = make_console()
    table = Table("way", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("steps", "tokens", "s a step", "ms a token", *(name.removesuffix("_s") for name in PHASES)):
        table.add_column(heading, justify="right")
    for name, one in found.totals.items():
        phases = (f"{one.phases_s[phase]:.2f}" for phase in PHASES)
        table.add_row(
            name, str(one.num_steps), str(one.num_tokens), f"{one.step_s:.2f}", f"{one.token_ms:.2f}", *phases
        )
    console.print(table)
    console.print(targets_table("ratio", found.targets))
    for line in (*found.notes, *(f"{name} is left out: {why}" for name, why in found.left_out.items())):
        console.print(line)
