"""The GRPO loss over packed tokens (tensors in, tensors out)."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerms:
    """Loss of one micro-batch and the detached per-token quantities that the metrics need, all [S]."""

    loss: torch.Tensor  # scalar
    ratio: torch.Tensor
    clipped: torch.Tensor  # bool: the clip, not the ratio, decided
    importance: torch.Tensor  # uncapped
    kl: torch.Tensor | None  # k3, None when the coefficient is 0


def importance_weights(old_logprob: torch.Tensor, engine_logprob: torch.Tensor) -> torch.Tensor:
    """[S] pi_learner_old / pi_engine per token, uncapped; 1 where the engine gave NaN.

    Corrects that the sampler and the learner compute different probabilities for the same weights
    (truncated importance sampling: Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy
    RL training").
    """
    return torch.where(torch.isnan(engine_logprob), torch.zeros_like(old_logprob), old_logprob - engine_logprob).exp()


def kl_k3(logprob: torch.Tensor, reference_logprob: torch.Tensor) -> torch.Tensor:
    """[S] exp(d) - d - 1, d = log pi_ref - log pi (estimator k3 of Schulman 2020, as in arXiv 2402.03300, eq. 4)."""
    difference = reference_logprob - logprob
    return torch.expm1(difference) - difference  # exp(d) - 1 would lose a small d to rounding


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
) -> LossTerms:
    """-J for J = sum_t w_t [ c_t min(r_t A_t, clip(r_t, 1-low, 1+high) A_t) - beta k3_t ] (arXiv 2402.03300, eq. 3).

    All tensors are [S], natural-log probabilities after temperature. r = exp(logprob - old_logprob) is taken against
    the learner's own log-probabilities at the start of the batch; c = min(importance, cap), without gradient, brings
    them to the policy that sampled. Separate clips: DAPO, arXiv 2503.14476, section 3.1. `weight` sums to the
    aggregation wanted (token mean, sequence mean or constant length), over all micro-batches of an update.
    """
    ratio = (logprob - old_logprob).exp()
    unclipped = ratio * advantage
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high) * advantage
    importance = importance_weights(old_logprob, engine_logprob)
    surrogate = importance.clamp(max=importance_cap) * torch.minimum(unclipped, clipped)
    kl = None
    if kl_coefficient > 0 and reference_logprob is not None:
        kl = kl_k3(logprob, reference_logprob)
        surrogate = surrogate - kl_coefficient * kl
    return LossTerms(
        loss=-(weight * surrogate).sum(),
        ratio=ratio.detach(),
        clipped=(clipped < unclipped).detach(),
        importance=importance,
        kl=None if kl is None else kl.detach(),
    )
