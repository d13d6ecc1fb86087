"""Measures this machine with PyTorch: what it is, and how fast it multiplies matrices in each precision."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from floe.cluster.machine.gpus import BFLOAT16_SINCE, read_gpus
from floe.cluster.machine.processor import has_bfloat16, processor_name
from floe.cluster.memory_plan import ModelShape
from floe.cluster.precision.rates import BFLOAT16, FLOAT32, Machine, ProductRates

NUM_PROBE_ROWS, MAX_ROWS = 8, 512
SINGLE_S = 0.008  # seconds of one product: short enough that some of them run without interruption by other programs
LIMIT_S = 1.6  # seconds of all products; each gets an equal part
MIN_SIDE = 512  # a smaller matrix would measure what a call costs
MAX_WEIGHTS = 2**20  # weights of one matrix: in a precision that the processor lacks a larger one takes seconds
SCORED_SHARE = 0.5  # share of a pack's tokens that go through the head: the completions'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Product:
    num_inputs: int
    num_outputs: int
    share: float  # share of a token's multiplications in the whole model


def measure_cpu(shape: ModelShape, num_threads: int) -> Machine:
    """Measure this machine's processor at the model's shapes, in under two seconds; rates are of `num_threads` cores.

    One core is measured, in pieces of milliseconds: several would wait for each other wherever another program has one
    of them, and the best of many pieces shows what a core can do. The precisions take turns, so that load falls on
    both.
    """
    products = _products(shape)
    whole = sum(one.share for one in products)
    learner_s, engine_s = ({FLOAT32: 0.0, BFLOAT16: 0.0} for _ in range(2))
    with _threads(1):
        for product in products:
            forward = _rates(product, is_forward=True, limit_s=LIMIT_S / len(products) / 2)
            backward = _rates(product, is_forward=False, limit_s=LIMIT_S / len(products) / 2)
            for dtype in (FLOAT32, BFLOAT16):
                # A token's time is the sum over its products.
                learner_s[dtype] += product.share * (1 / forward[dtype] + 1 / backward[dtype]) / 2
                engine_s[dtype] += product.share / forward[dtype]
    rates = {
        dtype: ProductRates(
            learner_flop_per_s=num_threads * whole / learner_s[dtype],
            engine_flop_per_s=num_threads * whole / engine_s[dtype],
        )
        for dtype in (FLOAT32, BFLOAT16)
    }
    return Machine(name=processor_name(), has_bfloat16=has_bfloat16(), rates=rates)


def read_gpu() -> Machine | None:
    """Return the first GPU that PyTorch can use here; its compute capability says what it computes.

    NVML is asked, since PyTorch's own answer would open a CUDA context of some hundred MB in this process.
    """
    found = read_gpus()
    if not found.torch_sees_gpus or not found.gpus:
        return None
    card = found.gpus[0]
    return Machine(name=card.name, has_bfloat16=card.capability >= BFLOAT16_SINCE, is_gpu=True)


@contextmanager
def _threads(num_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _products(shape: ModelShape) -> list[_Product]:
    """Return one product of each size: the projections of a layer, and the head."""
    work: dict[tuple[int, int], float] = {}
    for one in shape.projections:
        size = max(one.num_inputs, MIN_SIDE), max(one.num_outputs, MIN_SIDE)
        work[size] = work.get(size, 0.0) + one.count * one.num_inputs * one.num_outputs
    head = max(shape.hidden, MIN_SIDE), max(shape.vocabulary, MIN_SIDE)
    work[head] = work.get(head, 0.0) + SCORED_SHARE * shape.hidden * shape.vocabulary
    return [_Product(num_inputs=ins, num_outputs=outs, share=share) for (ins, outs), share in work.items()]


def _rates(product: _Product, *, is_forward: bool, limit_s: float) -> dict[str, float]:
    """Return FLOP/s by precision, forward (x @ W.T) or backward to the input (g @ W); the best within the limit."""
    num_outputs = min(product.num_outputs, max(MIN_SIDE, MAX_WEIGHTS // product.num_inputs))
    num_inputs = min(product.num_inputs, MAX_WEIGHTS // MIN_SIDE)
    operands, best, spent_s = {}, {}, {}
    for dtype in (FLOAT32, BFLOAT16):
        weight = torch.full((num_outputs, num_inputs), 0.01, dtype=getattr(torch, dtype))
        started_s = time.perf_counter()
        best[dtype] = _once(*_operands(weight, NUM_PROBE_ROWS, is_forward))
        spent_s[dtype] = time.perf_counter() - started_s
        num_rows = int(SINGLE_S * best[dtype] / (2 * num_inputs * num_outputs))
        operands[dtype] = _operands(weight, min(MAX_ROWS, max(NUM_PROBE_ROWS, num_rows)), is_forward)
    while waiting := [dtype for dtype in operands if spent_s[dtype] < limit_s / 2]:
        for dtype in waiting:
            started_s = time.perf_counter()
            best[dtype] = max(best[dtype], _once(*operands[dtype]))
            spent_s[dtype] += time.perf_counter() - started_s
    return best


def _operands(weight: torch.Tensor, num_rows: int, is_forward: bool) -> tuple[torch.Tensor, torch.Tensor]:
    right = weight.t() if is_forward else weight
    return torch.full((num_rows, right.shape[0]), 0.01, dtype=weight.dtype), right


def _once(left: torch.Tensor, right: torch.Tensor) -> float:
    started_s = time.perf_counter()
    torch.mm(left, right)
    return 2 * left.shape[0] * right.numel() / (time.perf_counter() - started_s)
