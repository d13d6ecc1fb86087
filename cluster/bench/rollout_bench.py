"""`floe bench rollout`: generated tokens per second of the rollout actor, compared with other ways, interleaved."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig

from floe.cluster.bench import duration, rollout_ways
from floe.cluster.bench.choice import EVERYTHING, Choice
from floe.cluster.bench.rollout_ways import Generate, bench_requests
from floe.cluster.bench.targets import Target, targets_table
from floe.cluster.machine.processor import processor_line
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.models.model_folder import model_folder
from floe.cluster.precision.resolved import with_precision
from floe.cluster.preflight.sample_adapter import random_adapter
from floe.cluster.ray_actors.placement import put_blob, ray_session
from floe.cluster.terminal.progress import Progress, make_console
from floe.configs.schema import RunConfig
from floe.learner.adapter.export import export_blob, to_blob
from floe.learner.adapter.files import write_adapter

NUM_ROUNDS = 4
WARM_UP = -1  # the warm-up round, which does not count
TRANSFORMERS_ROUNDS = 1  # slow enough to be measured on few
VERSION = 1

ACTOR, BASE = "rollout actor, adapter", "rollout actor, base model"
OFFLINE, STOCK, TRANSFORMERS = "LLM.generate, adapter", "LLM.generate, stock LoRA path", "transformers generate"
# As the option --ways names them.
WAYS = {"actor": ACTOR, "base": BASE, "llm": OFFLINE, "stock": STOCK, "transformers": TRANSFORMERS}


@dataclass
class Tally:
    num_tokens: int = 0
    seconds: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)  # of each round


def bench_rollout(config: RunConfig, as_json: bool, choice: Choice = EVERYTHING) -> None:
    """Print the table, or JSON; progress goes to stderr."""
    tallies = measured_rollout(config, choice)
    targets = targets_of(tallies)
    if as_json:
        ways = {
            name: {"tokens": one.num_tokens, "seconds": sum(one.seconds), "per_s": one.num_tokens / sum(one.seconds)}
            for name, one in tallies.items()
        }
        record = {"processor": processor_line(), "ways": ways, "targets": [one.record() for one in targets]}
        print(json.dumps(record, indent=2))
    else:
        _render(tallies, targets)


def measured_rollout(config: RunConfig, choice: Choice = EVERYTHING) -> dict[str, Tally]:
    """Measure the chosen ways, by their names; progress goes to stderr."""
    progress = Progress(make_console(stderr=True))
    progress.note(processor_line())
    config = with_precision(config, lambda: shape_of(config)).config
    model_dir = model_folder(config, config.run.home_dir / "demo")
    progress.phase(f"{duration.in_words(_planned_s(config, model_dir, choice))} on this machine")
    with (
        TemporaryDirectory(prefix="floe-bench-") as folder,
        redirect_stdout(sys.stderr),
        ray_session(config.cluster, "floe-bench"),
    ):
        return _measure(config, model_dir, Path(folder), choice, progress)


def _planned_s(config: RunConfig, model_dir: Path, choice: Choice) -> float:
    """Return the seconds that the chosen ways will take, from a measurement of a second or two."""
    token_flops, rate = duration.forward_rate(
        AutoConfig.from_pretrained(model_dir), getattr(torch, config.rollout.dtype), config.rollout.num_threads
    )
    rounds = [(short, _num_rounds(name, choice)) for short, name in WAYS.items() if choice.wants(name)]
    num_tokens = sum(
        request.num_samples * request.max_new_tokens
        for request in bench_requests(rollout_ways.FIRST_TOKEN + 1, 0, choice.shapes)
    )
    return duration.rollout_bench_s(token_flops, rate, num_tokens, rounds)


def _num_rounds(name: str, choice: Choice) -> int:
    num_rounds = choice.num_rounds or NUM_ROUNDS
    return min(num_rounds, TRANSFORMERS_ROUNDS) if name == TRANSFORMERS else num_rounds


def _measure(config: RunConfig, model_dir: Path, folder: Path, choice: Choice, progress: Progress) -> dict[str, Tally]:
    progress.phase("start of the actors")
    model = AutoConfig.from_pretrained(model_dir)
    ways, stop = _ways(config, model_dir, folder, choice)
    tallies = {name: Tally() for name in ways}
    for number in range(WARM_UP, choice.num_rounds or NUM_ROUNDS):
        requests = bench_requests(model.vocab_size, number, choice.shapes)
        progress.phase("warm-up" if number == WARM_UP else f"round {number + 1} of {choice.num_rounds or NUM_ROUNDS}")
        for name in list(ways) if number % 2 == 0 else list(ways)[::-1]:
            if number == WARM_UP:
                ways[name](requests[:1])
            elif number < _num_rounds(name, choice):
                _time(tallies[name], ways[name], requests)
                progress.note(f"{name}: {tallies[name].per_s[-1]:.0f} tokens/s")
    stop()
    return tallies


def _ways(
    config: RunConfig, model_dir: Path, folder: Path, choice: Choice
) -> tuple[dict[str, Generate], Callable[[], None]]:
    """Start what the chosen ways need. Returns them, and what ends the rollout actor."""
    tensors = random_adapter(AutoConfig.from_pretrained(model_dir), config.lora)
    adapter = folder / "adapter"
    write_adapter(adapter, to_blob(tensors), config.lora, model_dir)
    ways: dict[str, Generate] = {}
    stop: Callable[[], None] = lambda: None  # noqa: E731
    if choice.wants(ACTOR) or choice.wants(BASE):
        manifest = export_blob(tensors, config.lora, VERSION, put_blob, config.rollout.dtype)
        pool = rollout_ways.start_engine(config, model_dir, manifest)
        stop = pool.stop
        ways |= {ACTOR: rollout_ways.streaming(pool, VERSION), BASE: rollout_ways.streaming(pool, None)}
    for name, stock_lora in ((OFFLINE, False), (STOCK, True)):
        if choice.wants(name):
            ways[name] = rollout_ways.offline(config, model_dir, adapter, stock_lora=stock_lora)
    if choice.wants(TRANSFORMERS):
        ways[TRANSFORMERS] = rollout_ways.transformers_generate(config, model_dir, adapter)
    return {name: way for name, way in ways.items() if choice.wants(name)}, stop


def _time(tally: Tally, generate: Generate, requests: Sequence[Any]) -> None:
    started_s = time.perf_counter()
    num_tokens = generate(requests)
    took_s = time.perf_counter() - started_s
    tally.num_tokens += num_tokens
    tally.seconds.append(took_s)
    tally.per_s.append(num_tokens / took_s)


def targets_of(tallies: dict[str, Tally]) -> list[Target]:
    """Return the ratios over the rounds that both ways ran."""

    def ratio(other: str) -> float | None:
        if ACTOR not in tallies or other not in tallies:
            return None
        num_rounds = min(len(tallies[ACTOR].per_s), len(tallies[other].per_s))
        return sum(tallies[ACTOR].per_s[:num_rounds]) / sum(tallies[other].per_s[:num_rounds])

    return [
        Target(name=f"actor / {OFFLINE}", ratio=ratio(OFFLINE), at_least=0.95),
        Target(name="actor / actor with the base model", ratio=ratio(BASE), at_least=0.85),
        Target(name=f"actor / {STOCK}", ratio=ratio(STOCK), at_least=2.0),
        Target(name=f"actor / {TRANSFORMERS}", ratio=ratio(TRANSFORMERS), at_least=None),
    ]


def _render(tallies: dict[str, Tally], targets: Sequence[Target]) -> None:
    from rich import box
    from rich.table import Table

    console = make_console()
    table = Table("way", "tokens", "tokens/s", "of each round", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, tally in tallies.items():
        rounds = ", ".join(f"{value:.0f}" for value in tally.per_s)
        table.add_row(name, str(tally.num_tokens), f"{tally.num_tokens / sum(tally.seconds):.0f}", rounds)
    console.print(table)
    console.print(targets_table("ratio, tokens per second", targets))
