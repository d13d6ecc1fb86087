"""Collects what one GRPO step's micro-batches report into a StepReport."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace

import torch

from floe.cluster.messages import StepReport
from floe.learner.loss.grpo_loss import LossTerms
from floe.learner.loss.importance import effective_sample_share, is_known
from floe.learner.optimizer.allocator_peaks import AllocatorPeaks
from floe.learner.packing.packs import Pack


class StepMeter:
    """Per-token quantities of one step, gathered over micro-batches."""

    def __init__(self) -> None:
        self.grad_norms: list[float] = []
        self.supervised: list[float] = []  # cross-entropy of each optimiser step, this rank's part
        self.peaks: AllocatorPeaks | None = None  # of a learner on a CUDA device
        self._losses: list[float] = []
        self._terms: list[LossTerms] = []
        self._engine_logprobs: list[torch.Tensor] = []

    def add(self, pack: Pack, terms: LossTerms) -> None:
        self._losses.append(terms.loss.item())
        self._terms.append(_on_cpu(terms))
        self._engine_logprobs.append(pack.engine_logprob.cpu())

    @classmethod
    def joined(cls, meters: Iterable[StepMeter]) -> StepMeter:
        """Return one meter of all ranks' micro-batches; the gradient norms are the same on every rank."""
        whole = cls()
        given = tuple(meters)
        whole.peaks = AllocatorPeaks.fullest([meter.peaks for meter in given])
        for meter in given:
            whole.grad_norms = meter.grad_norms
            whole.supervised += meter.supervised
            whole._losses += meter._losses
            whole._terms += meter._terms
            whole._engine_logprobs += meter._engine_logprobs
        return whole

    def report(self, *, step: int, learning_rate: float, num_groups: int) -> StepReport:
        """Return the step's report. Means are over scored tokens.

        A step without a useful group reports zeros, because nothing was updated.
        """
        log_importance = self._cat("log_importance")
        known = is_known(torch.cat(self._engine_logprobs)) if self._terms else torch.zeros(0, dtype=torch.bool)
        mismatch = log_importance[known].abs()
        return StepReport(
            step=step,
            loss=sum(self._losses),
            kl=self._mean_or_none("kl"),
            kl_k1=self._mean_or_none("kl_k1"),
            kl_k2=self._mean_or_none("kl_k2"),
            grad_norm=sum(self.grad_norms) / len(self.grad_norms) if self.grad_norms else 0.0,
            learning_rate=learning_rate,
            ratio_clip_share=_share(self._cat("clipped").float()),
            importance_truncated_share=_share(self._cat("importance_cut").float()),
            logprob_mismatch_mean=_share(mismatch),
            logprob_mismatch_max=float(mismatch.max()) if len(mismatch) else 0.0,
            effective_sample_size=effective_sample_share(log_importance),
            num_nan_logprobs=int((~known).sum()),
            trained_groups=num_groups,
            trained_tokens=len(log_importance),
            supervised_loss=sum(self.supervised) / len(self.grad_norms) if self.supervised else None,
            allocated_peak_bytes=None if self.peaks is None else self.peaks.allocated_bytes,
            reserved_peak_bytes=None if self.peaks is None else self.peaks.reserved_bytes,
        )

    def _cat(self, name: str) -> torch.Tensor:
        return torch.cat([getattr(terms, name) for terms in self._terms]) if self._terms else torch.zeros(0)

    def _mean_or_none(self, name: str) -> float | None:
        return None if not self._terms or getattr(self._terms[0], name) is None else _share(self._cat(name))


def _on_cpu(terms: LossTerms) -> LossTerms:
    values = {f.name: getattr(terms, f.name) for f in fields(terms)}
    return replace(terms, **{name: value.detach().cpu() for name, value in values.items() if value is not None})


def _share(values: torch.Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0
