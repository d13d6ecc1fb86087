"""The precision of learner and engine where the configuration leaves it open (pure)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from floe.cluster.precision.rates import BFLOAT16, FLOAT32, Machine

AUTO = "auto"
CLEARLY_FASTER = 1.1  # below this ratio two rates count as equal, and the hardware's own word decides
WORTH_ANOTHER = 1.2  # gain that the engine needs to differ from the learner, which costs mismatch between the two
GIGA = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """A decision, and its reason as one line for the log."""

    model_dtype: str
    rollout_dtype: str
    line: str


def decide(
    model_dtype: str,
    rollout_dtype: str,
    learners: Sequence[Machine],
    engines: Sequence[Machine],
    allowed: Collection[str] = (BFLOAT16, FLOAT32),
) -> Precision:
    """Decide for every machine of a role at once: the slowest of them delays the others.

    `allowed` are the precisions that the learner can take. A measured rate wins over what the hardware says of itself.
    """
    learner, why = (model_dtype, "as configured") if model_dtype != AUTO else _of_learner(learners, allowed)
    if rollout_dtype != AUTO:
        engine, why_engine = rollout_dtype, "as configured"
    else:
        engine, why_engine = _of_engine(learner, engines)
    line = f"precision: the learner computes in {learner} ({why}), "
    line += f"the engine in {engine} ({why_engine})" if engine != learner else "and so does the engine"
    return Precision(model_dtype=learner, rollout_dtype=engine, line=line)


def _of_learner(machines: Sequence[Machine], allowed: Collection[str]) -> tuple[str, str]:
    if len(allowed) == 1:
        (only,) = allowed
        return only, "the only one that learner.zero_stage=0 takes"
    return _fastest(machines, "learner_flop_per_s")


def _of_engine(learner: str, machines: Sequence[Machine]) -> tuple[str, str]:
    """Return the learner's precision, unless the other one is clearly faster or the engine's card lacks it."""
    other = FLOAT32 if learner == BFLOAT16 else BFLOAT16
    if any(one.is_gpu for one in machines):
        return _fastest(machines, "engine_flop_per_s")
    rates = _slowest_rates(machines, "engine_flop_per_s")
    if rates and rates[other] > WORTH_ANOTHER * rates[learner]:
        return other, _measured(rates, "generation", machines)
    return learner, "as the learner"


def _fastest(machines: Sequence[Machine], role: str) -> tuple[str, str]:
    names = " and ".join(sorted({one.name for one in machines}))
    all_say_so = all(one.has_bfloat16 for one in machines)
    said = BFLOAT16 if all_say_so else FLOAT32
    if any(one.is_gpu for one in machines):
        return said, f"{names}, compute capability {'8.0 or later' if all_say_so else 'below 8.0'}"
    rates = _slowest_rates(machines, role)
    if not rates:
        return said, f"{names} {'has' if all_say_so else 'has no'} bfloat16 instructions; not measured"
    slower, faster = sorted((BFLOAT16, FLOAT32), key=lambda dtype: rates[dtype])
    chosen = faster if rates[faster] > CLEARLY_FASTER * rates[slower] else said
    work = "learning" if role == "learner_flop_per_s" else "generation"
    return chosen, _measured(rates, work, machines)


def _measured(rates: dict[str, float], work: str, machines: Sequence[Machine]) -> str:
    figures = ", ".join(f"{dtype} {rates[dtype] / GIGA:,.0f}" for dtype in sorted(rates))
    where = " and ".join(sorted({one.name for one in machines}))
    return f"measured GFLOP/s of {work}'s matrix products: {figures}; {where}"


def _slowest_rates(machines: Sequence[Machine], role: str) -> dict[str, float]:
    """Return each precision's rate on the machine that is slowest in it; empty unless all were measured."""
    if not machines or not all(one.rates for one in machines):
        return {}
    return {dtype: min(getattr(one.rates[dtype], role) for one in machines) for dtype in (BFLOAT16, FLOAT32)}
