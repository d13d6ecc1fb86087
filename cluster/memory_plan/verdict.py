"""Verdict on a memory plan in one sentence (pure)."""

from __future__ import annotations

import json

from floe.cluster.memory_plan.phases import Device
from floe.cluster.memory_plan.plan import MemoryPlan

GIB = 2**30


def verdict(made: MemoryPlan) -> str:
    """Return the verdict in one sentence."""
    chosen = made.chosen
    if chosen is not None:
        how = f" with {chosen.colocation}" if made.device is Device.SHARED_GPU else ""
        return (
            f"It fits{how}: {chosen.peak_bytes / GIB:.2f} of {made.budget_bytes / GIB:.2f} GiB at the peak, which "
            f"leaves {chosen.margin_bytes / GIB:.2f}."
        )
    changes = changes_that_fit(made)
    if changes:
        return f"It does not fit: {lack(made)}; it would with {changes}."
    return f"It does not fit: {lack(made)}, and no settings would do: take a smaller model or {made.larger}."


def lack(made: MemoryPlan) -> str:
    """Return what there is too little of, for a plan that does not fit."""
    budget = f"{made.budget_bytes / GIB:.2f} GiB"
    least = min(made.options, key=lambda option: option.peak_bytes)
    if least.peak_bytes > made.budget_bytes and not made.lacks_host:
        return f"at the peak it takes {least.peak_bytes / GIB:.2f} GiB at least, of {budget}"
    short = next((option for option in made.options if not option.fits_host), None)
    is_short = made.lacks_host or least.kv_bytes >= least.min_kv_bytes
    if short is not None and short.host_limit_bytes is not None and is_short:
        return (
            f"with {short.colocation} {short.host_bytes / GIB:.2f} GiB lie pinned on the host, which has "
            f"{short.host_limit_bytes / GIB:.2f}"
        )
    return (
        f"the engine's share leaves {least.kv_bytes / GIB:.2f} GiB for its KV cache, and one sequence of "
        f"model.max_context_tokens takes {least.min_kv_bytes / GIB:.2f}"
    )


def changes_that_fit(made: MemoryPlan) -> str:
    """Return the changes as on a command line; empty where no settings would do."""
    changes = {} if made.remedy is None else made.remedy.changes
    return " ".join(f"{key}={_shown(value)}" for key, value in changes.items())


def _shown(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
