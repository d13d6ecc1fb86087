"""Measured rates of a machine, and how much slower it is than the one of docs/quickstart.md (pure)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRates:
    """Rates measured on the machine that runs the whole of a run."""

    learner_flop_per_s: (
        float  # matrix products of the model's shapes, forward and both gradients, in the learner's type
    )
    engine_flop_per_s: float  # the same products, forward only, in the engine's type
    compared_flop_per_s: float  # like the learner's, in the shapes of docs/quickstart.md's model, whatever the run's
    python_turns_per_s: float  # iterations of an empty loop of the interpreter, one thread


# Two cores with AMX, bfloat16: the machine whose times docs/quickstart.md gives.
REFERENCE = MachineRates(
    learner_flop_per_s=380e9, engine_flop_per_s=380e9, compared_flop_per_s=380e9, python_turns_per_s=60e6
)


def slowdown(rates: MachineRates) -> float:
    """Return how many times slower than the reference the slowest part of this machine is, at least 1."""
    return max(1.0, REFERENCE.compared_flop_per_s / rates.compared_flop_per_s, single_thread_slowdown(rates))


def single_thread_slowdown(rates: MachineRates) -> float:
    """Return the same for the work of one thread without matrix products: starting, scheduling, sampling."""
    return max(1.0, REFERENCE.python_turns_per_s / rates.python_turns_per_s)
