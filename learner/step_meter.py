"""Collects what one GRPO step's micro-batches report into a StepReport."""

from __future__ import annotations

import torch

from cluster.messages import StepReport
from learner.grpo_loss import LossTerms
from learner.packing import Pack


class StepMeter:
    """Per-token quantities of one step, gathered over micro-batches."""

    def __init__(self, importance_cap: float) -> None:
        self.grad_norms: list[float] = []
        self._importance_cap = importance_cap
        self._losses: list[float] = []
        self._terms: list[LossTerms] = []
        self._engine_logprobs: list[torch.Tensor] = []

    def add(self, pack: Pack, terms: LossTerms) -> None:
        self._losses.append(terms.loss.item())
        self._terms.append(terms)
        self._engine_logprobs.append(pack.engine_logprob)

    def report(self, *, step: int, learning_rate: float, num_groups: int) -> StepReport:
        """Means are over scored tokens. A step without a useful group reports zeros: nothing was updated."""
        has_tokens = bool(self._terms)
        importance = self._cat("importance")
        engine = torch.cat(self._engine_logprobs) if has_tokens else torch.zeros(0)
        known = ~torch.isnan(engine)
        mismatch = importance[known].log().abs()
        num_tokens = len(importance)
        kl = None
        if has_tokens and self._terms[0].kl is not None:
            kl = float(torch.cat([t.kl for t in self._terms if t.kl is not None]).mean())
        return StepReport(
            step=step,
            loss=sum(self._losses),
            kl=kl,
            grad_norm=sum(self.grad_norms) / len(self.grad_norms) if self.grad_norms else 0.0,
            learning_rate=learning_rate,
            ratio_clip_share=_share(self._cat("clipped").float()),
            importance_truncated_share=_share((importance > self._importance_cap).float()),
            logprob_mismatch_mean=_share(mismatch),
            logprob_mismatch_max=float(mismatch.max()) if len(mismatch) else 0.0,
            effective_sample_size=float(importance.sum() ** 2 / (num_tokens * (importance**2).sum()))
            if has_tokens
            else 0.0,
            num_nan_logprobs=int((~known).sum()),
            trained_groups=num_groups,
            trained_tokens=num_tokens,
        )

    def _cat(self, name: str) -> torch.Tensor:
        return torch.cat([getattr(terms, name) for terms in self._terms]) if self._terms else torch.zeros(0)


def _share(values: torch.Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0
