"""A short measurement of what the plan needs to know of this machine; the only use of torch here."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from floe.cluster.memory_plan.shapes.model_shape import ModelShape
from floe.cluster.time_plan.rates import MachineRates

ROWS, HEAD_ROWS = 256, 128  # about a group's tokens, and a wave's
MAX_COLUMNS = 4096  # outputs of the head: its rate is that of a part of it
PYTHON_TURNS = 200_000
Sizes = tuple[tuple[int, int, int], ...]  # rows, inputs and outputs of each product
COMPARED: Sizes = ((ROWS, 576, 1536),)
TRIES_S = 0.08  # seconds of one product: among so many tries some run without interruption
LIMIT_S = 0.5  # seconds of the products; on a processor without the type's instructions one alone may take longer


def measure_rates(shape: ModelShape, learner_dtype: str, engine_dtype: str, num_threads: int) -> MachineRates:
    """Measure for at most about two seconds, with as many threads as the learner has."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        learner = _product_rate(_products_of(shape), getattr(torch, learner_dtype), with_gradient=True)
        engine = _product_rate(_products_of(shape), getattr(torch, engine_dtype), with_gradient=False)
        compared = _product_rate(COMPARED, getattr(torch, learner_dtype), with_gradient=True)
    finally:
        torch.set_num_threads(before)
    return MachineRates(
        learner_flop_per_s=learner,
        engine_flop_per_s=engine,
        compared_flop_per_s=compared,
        python_turns_per_s=PYTHON_TURNS / _fastest_s(_turn),
    )


def _products_of(shape: ModelShape) -> Sizes:
    """Return one layer's MLP and a part of the head."""
    head = HEAD_ROWS, shape.hidden, min(shape.vocabulary, MAX_COLUMNS)
    return (ROWS, shape.hidden, shape.intermediate), head


def _product_rate(sizes: Sizes, dtype: torch.dtype, *, with_gradient: bool) -> float:
    """Return operations per second over the products of activations with such weights."""
    num_flop, taken_s, started_s = 0, 0.0, time.perf_counter()
    for rows, num_inputs, num_outputs in sizes:
        weight = torch.randn(num_outputs, num_inputs).to(dtype)
        activations = torch.randn(rows, num_inputs).to(dtype)
        gradients = torch.randn(rows, num_outputs).to(dtype)
        products = [(activations, weight.t())] + [(gradients, weight)] * with_gradient
        for left, right in products:
            num_flop += 2 * left.shape[0] * right.numel()
            taken_s += _fastest_s(partial(torch.mm, left, right), started_s + LIMIT_S)
    return num_flop / taken_s


def _fastest_s(act: Callable[[], object], until_s: float = float("inf")) -> float:
    """Return the seconds of the fastest try, the least disturbed by other programs. Tries once when time is up."""
    found = []
    last_s = min(until_s, time.perf_counter() + TRIES_S)
    while True:
        started_s = time.perf_counter()
        act()
        ended_s = time.perf_counter()
        found.append(ended_s - started_s)
        if ended_s > last_s:
            return min(found)


def _turn() -> None:
    for _ in range(PYTHON_TURNS):
        pass
