"""Estimates how long a bench will take, from the rate of matrix products measured in a moment."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import torch

from floe.cluster.bench.learner.learner_cases import Case
from floe.cluster.bench.learner.learner_figures import TRL, TRL_AS_SHIPPED, UNSHARED
from floe.cluster.bench.learner.matmul_limit import MatmulLimit
from floe.cluster.memory_plan.shapes.projections import projection_sizes
from floe.cluster.time_plan.update_flops import ModelSizes, Work, update_flops

ROWS = 256
MEASURED = Work(num_tokens=ROWS, num_scored=ROWS, num_pairs=ROWS * ROWS // 2)
SHARE_OF_RATE = 0.45  # share of that rate that an update reaches, of any way
ENGINE_S_PER_TOKEN = 0.002  # time that a generated token takes in addition to its products
GENERATED_ROWS = 128  # candidates that are generated at a time
# Seconds of each way for one of the rollout actor, as docs/rollout.md has them.
ROLLOUT_FACTORS = {"actor": 1.0, "base": 0.9, "llm": 1.0, "stock": 3.7, "transformers": 21.0}
START_S = {"learner": 25.0, "engine": 15.0}  # of each process, with its model


def update_rate(model: ModelSizes, dtype: torch.dtype, device: torch.device) -> float:
    """Return FLOP/s of the products of an update at the model's shapes; measures for a second or two."""
    limit = MatmulLimit(model, num_tokens=ROWS, num_scored=ROWS, dtype=dtype, device=device)
    return update_flops(model, MEASURED).total / limit.update_s(MEASURED)


def learner_bench_s(model: ModelSizes, rate: float, cases: Iterable[tuple[Case, Iterable[str], int]]) -> float:
    """Return seconds of the learner bench over (case, ways, rounds), each way's warm-up included."""
    total = START_S["learner"]
    for case, ways, num_rounds in cases:
        for way in ways:
            flops = update_flops(model, _work(case, way)).total
            total += flops * (num_rounds + 1) / (rate * SHARE_OF_RATE)
    return total


def rollout_bench_s(token_flops: float, rate: float, num_tokens: int, rounds: Iterable[tuple[str, int]]) -> float:
    """Return seconds of the rollout bench over (way's short name, rounds) of `num_tokens` generated tokens each."""
    token_s = token_flops / rate + ENGINE_S_PER_TOKEN
    return sum(
        START_S["engine"] + num_rounds * num_tokens * token_s * ROLLOUT_FACTORS[name] for name, num_rounds in rounds
    )


def forward_rate(config: Any, dtype: torch.dtype, num_threads: int | None) -> tuple[float, float]:
    """Return FLOP of one generated token and the measured FLOP/s of its products, from transformers' configuration."""
    torch.set_num_threads(num_threads or torch.get_num_threads())
    shapes = [*projection_sizes(config).values(), (config.hidden_size, config.vocab_size)]
    counts = [config.num_hidden_layers] * (len(shapes) - 1) + [1]
    flops = seconds = 0.0
    for (inputs, outputs), count in zip(shapes, counts, strict=True):
        rows, weight = torch.randn(GENERATED_ROWS, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
        torch.mm(rows, weight.t())
        started_s = time.perf_counter()
        torch.mm(rows, weight.t())
        seconds += count * (time.perf_counter() - started_s)
        flops += count * 2 * GENERATED_ROWS * inputs * outputs
    return flops / GENERATED_ROWS, flops / seconds


def in_words(seconds: float) -> str:
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"


def _work(case: Case, way: str) -> Work:
    """Return the work of one update, the prompt once or once for each completion."""
    span = case.prompt_tokens + case.completion_tokens
    if way in (UNSHARED, TRL, TRL_AS_SHIPPED):
        num_pairs = case.group_size * span * (span + 1) // 2
        num_scored = case.num_unshared if way == TRL_AS_SHIPPED else case.num_trained
        return Work(num_tokens=case.num_unshared, num_scored=num_scored, num_pairs=num_pairs)
    own = case.prompt_tokens * case.completion_tokens + case.completion_tokens * (case.completion_tokens + 1) // 2
    num_pairs = case.prompt_tokens * (case.prompt_tokens + 1) // 2 + case.group_size * own
    return Work(num_tokens=case.prompt_tokens + case.num_trained, num_scored=case.num_trained, num_pairs=num_pairs)
