"""Rates of matrix products on a machine in each precision, and what the hardware says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BFLOAT16, FLOAT32 = "bfloat16", "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductRates:
    """Floating-point operations per second of a model's own products in one precision."""

    learner_flop_per_s: float  # forward, and backward to the input: the passes of a frozen base with an adapter
    engine_flop_per_s: float  # forward alone, on as many rows as a batch of sequences has


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One node that learner or engine may run on.

    `rates` is empty where nothing was measured: the hardware's own word then decides.
    """

    name: str  # name of the processor or the card
    has_bfloat16: bool  # by the processor's flags, or the card's compute capability
    is_gpu: bool = False
    rates: Mapping[str, ProductRates] = field(default_factory=dict)  # by precision
