"""Figures of the whole-step bench: seconds by phase, tokens, and the ratios that follow (pure)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from floe.cluster.bench.targets import Target

FLOE = "floe"
TRL_GENERATE, TRL_VLLM = "trl, transformers generate", "trl, vLLM in its process"
# As the option --ways names them; floe is always measured.
WAYS = {"trl": TRL_GENERATE, "trl-vllm": TRL_VLLM}
PHASES = ("generate_s", "reward_s", "update_s", "sync_s")
AT_LEAST = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Seconds of one whole step, and the completion tokens that it generated and trained."""

    step_s: float
    generate_s: float
    reward_s: float  # what scoring adds to the step; floe scores while it generates
    update_s: float  # loss, gradient and optimiser
    sync_s: float  # until the generation has the new weights
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTotals:
    """Sums over a way's steps."""

    num_steps: int
    num_tokens: int
    step_s: float  # mean over the steps
    token_ms: float  # of the whole step, for each completion token
    phases_s: Mapping[str, float] = field(default_factory=dict)  # means over the steps

    @classmethod
    def of(cls, steps: Sequence[StepTimes]) -> StepTotals:
        """Return the totals of one or more steps."""
        num_tokens = sum(one.num_tokens for one in steps)
        return cls(
            num_steps=len(steps),
            num_tokens=num_tokens,
            step_s=statistics.fmean(one.step_s for one in steps),
            token_ms=1000 * sum(one.step_s for one in steps) / num_tokens,
            phases_s={name: statistics.fmean(getattr(one, name) for one in steps) for name in PHASES},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeSteps:
    """Result of the bench."""

    notes: tuple[str, ...]
    ways: Mapping[str, tuple[StepTimes, ...]]
    left_out: Mapping[str, str]  # why a way is missing that was wanted

    @property
    def totals(self) -> dict[str, StepTotals]:
        return {name: StepTotals.of(steps) for name, steps in self.ways.items()}

    @property
    def targets(self) -> list[Target]:
        """Return how many times as long the others take for a completion token of a whole step."""
        totals, found = self.totals, []
        for other in WAYS.values():
            ratio = totals[other].token_ms / totals[FLOE].token_ms if other in totals else None
            found.append(Target(name=f"{other} / {FLOE}, time a token", ratio=ratio, at_least=AT_LEAST))
            for phase in ("generate_s", "update_s"):
                ratio = _per_token(totals[other], phase) / _per_token(totals[FLOE], phase) if other in totals else None
                name = f"{other} / {FLOE}, {phase.removesuffix('_s')}, time a token"
                found.append(Target(name=name, ratio=ratio, at_least=None))
        return found

    def record(self) -> dict[str, Any]:
        return {
            "notes": list(self.notes),
            "ways": {name: asdict(one) for name, one in self.totals.items()},
            "steps": {name: [asdict(one) for one in steps] for name, steps in self.ways.items()},
            "left_out": dict(self.left_out),
            "targets": [one.record() for one in self.targets],
        }


def _per_token(totals: StepTotals, phase: str) -> float:
    return totals.phases_s[phase] * totals.num_steps / totals.num_tokens
