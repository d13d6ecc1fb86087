"""`floe bench rollout`: generated tokens per second of the rollout actor, beside other ways, interleaved."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import AutoConfig

from cluster.bench import rollout_ways
from cluster.bench.random_adapter import random_adapter
from cluster.bench.rollout_ways import Generate, bench_requests
from cluster.bench.targets import Target, targets_table
from cluster.embedded_models import model_folder
from cluster.placement import put_blob, ray_session
from cluster.reports.progress import Progress, make_console
from configs.schema import RunConfig
from learner.adapter_export import export_blob, to_blob
from learner.adapter_files import write_adapter

NUM_ROUNDS = 4
TRANSFORMERS_ROUNDS = 1  # slow enough to be measured on few
VERSION = 1

ACTOR, BASE = "rollout actor, adapter", "rollout actor, base model"
OFFLINE, STOCK, TRANSFORMERS = "LLM.generate, adapter", "LLM.generate, stock LoRA path", "transformers generate"


@dataclass
class Tally:
    num_tokens: int = 0
    seconds: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)  # of each round


def bench_rollout(config: RunConfig, as_json: bool) -> None:
    """Print the table, or JSON; progress goes to stderr."""
    progress = Progress(make_console(stderr=True))
    with (
        TemporaryDirectory(prefix="floe-bench-") as folder,
        redirect_stdout(sys.stderr),
        ray_session(config.cluster, "floe-bench"),
    ):
        tallies = _measure(config, Path(folder), progress)
    targets = _targets(tallies)
    if as_json:
        ways = {
            name: {"tokens": one.num_tokens, "seconds": sum(one.seconds), "per_s": one.num_tokens / sum(one.seconds)}
            for name, one in tallies.items()
        }
        print(json.dumps({"ways": ways, "targets": [one.record() for one in targets]}, indent=2))
    else:
        _render(tallies, targets)


def _measure(config: RunConfig, folder: Path, progress: Progress) -> dict[str, Tally]:
    progress.phase("start of the actors")
    model_dir = model_folder(config, config.run.home_dir / "demo")
    model = AutoConfig.from_pretrained(model_dir)
    tensors = random_adapter(model, config.lora)
    write_adapter(folder / "adapter", to_blob(tensors), config.lora, model_dir)
    manifest = export_blob(tensors, config.lora, VERSION, put_blob, config.model.dtype)
    pool = rollout_ways.start_engine(config, model_dir, manifest)
    ways = {
        ACTOR: rollout_ways.streaming(pool, VERSION),
        BASE: rollout_ways.streaming(pool, None),
        OFFLINE: rollout_ways.offline(config, model_dir, folder / "adapter", stock_lora=False),
        STOCK: rollout_ways.offline(config, model_dir, folder / "adapter", stock_lora=True),
        TRANSFORMERS: rollout_ways.transformers_generate(config, model_dir, folder / "adapter"),
    }
    tallies = {name: Tally() for name in ways}
    for number in range(-1, NUM_ROUNDS):  # the first warms up and does not count
        requests = bench_requests(model.vocab_size, number)
        progress.phase("warm-up" if number < 0 else f"round {number + 1} of {NUM_ROUNDS}")
        for name in list(ways) if number % 2 == 0 else list(ways)[::-1]:
            if number < 0:
                ways[name](requests[:1])
            elif name != TRANSFORMERS or number < TRANSFORMERS_ROUNDS:
                _time(tallies[name], ways[name], requests)
                progress.note(f"{name}: {tallies[name].per_s[-1]:.0f} tokens/s")
    pool.stop()
    return tallies


def _time(tally: Tally, generate: Generate, requests: Sequence) -> None:
    started_s = time.perf_counter()
    num_tokens = generate(requests)
    took_s = time.perf_counter() - started_s
    tally.num_tokens += num_tokens
    tally.seconds.append(took_s)
    tally.per_s.append(num_tokens / took_s)


def _targets(tallies: dict[str, Tally]) -> list[Target]:
    """Ratios over the rounds that both ways ran."""

    def ratio(other: str) -> float:
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
