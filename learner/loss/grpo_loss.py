"""The policy loss over packed tokens (tensors in, tensors out)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from floe.learner.loss.importance import Importance, importance_correction, importance_weights
from floe.learner.loss.kl_estimators import kl_k1, kl_k2, kl_k3
from floe.learner.loss.surrogates import Loss, surrogate

__all__ = ["LossTerms", "grpo_loss", "importance_weights", "kl_k3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerms:
    """Loss of one micro-batch and the detached per-token quantities that the metrics need, all [S]."""

    loss: torch.Tensor  # scalar
    token_loss: torch.Tensor  # adds up to the loss
    ratio: torch.Tensor
    clipped: torch.Tensor  # bool: the clip, not the ratio, decided
    log_importance: torch.Tensor  # nats, uncapped
    importance_cut: torch.Tensor  # bool: capped, or its sequence dropped
    kl: torch.Tensor | None  # k3; None, like the other two, when the coefficient is 0
    kl_k1: torch.Tensor | None
    kl_k2: torch.Tensor | None

    @property
    def importance(self) -> torch.Tensor:
        """Return pi_learner_old / pi_engine [S], uncapped."""
        return self.log_importance.exp()


def grpo_loss(
    *,
    logprob: torch.Tensor,
    old_logprob: torch.Tensor,
    engine_logprob: torch.Tensor,
    advantage: torch.Tensor,
    weight: torch.Tensor,
    clip_low: float,
    clip_high: float,
    importance_cap: float,
    reference_logprob: torch.Tensor | None = None,
    kl_coefficient: float = 0.0,
    loss: Loss = "grpo",
    importance: Importance = "truncate",
    sequence: torch.Tensor | None = None,
) -> LossTerms:
    """-J for J = sum_t w_t [ c_t u_t - beta k3_t ] (arXiv 2402.03300, eq. 3, with `surrogate` u and correction c).

    All tensors are [S], natural-log probabilities after temperature. The ratio in u is taken against the learner's own
    log-probabilities at the start of the batch; c (`importance_correction`) brings them to the policy that sampled and
    leaves the KL alone. `weight` sums to the aggregation wanted (token mean, sequence mean or constant length), over
    all micro-batches of an update. `sequence` [S] int64 tells which tokens belong together.

    Raises ValueError with a KL coefficient but no reference, and without `sequence` where the options need it.
    """
    if kl_coefficient > 0 and reference_logprob is None:
        raise ValueError(f"the KL coefficient is {kl_coefficient:g} but there are no log-probabilities of a reference")
    terms = surrogate(
        loss,
        logprob=logprob,
        old_logprob=old_logprob,
        advantage=advantage,
        clip_low=clip_low,
        clip_high=clip_high,
        sequence=sequence,
    )
    correction = importance_correction(old_logprob, engine_logprob, importance, importance_cap, sequence)
    objective = correction.weight * terms.value
    k1 = k2 = k3 = None
    if kl_coefficient > 0 and reference_logprob is not None:
        k3 = kl_k3(logprob, reference_logprob)
        objective = objective - kl_coefficient * k3
        k1, k2 = kl_k1(logprob.detach(), reference_logprob), kl_k2(logprob.detach(), reference_logprob)
    token_loss = -(weight * objective)
    return LossTerms(
        loss=token_loss.sum(),
        token_loss=token_loss.detach(),
        ratio=terms.ratio,
        clipped=terms.clipped,
        log_importance=correction.log_ratio,
        importance_cut=correction.cut,
        kl=None if k3 is None else k3.detach(),
        kl_k1=k1,
        kl_k2=k2,
    )
