"""Corrects that the engine samples with other probabilities than the learner computes for the same weights (pure)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from floe.learner.loss.per_sequence import sequence_sums

Importance = Literal["truncate", "mask_sequence", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Correction of each token's loss to the policy that sampled it; [S] each, without gradient."""

    weight: torch.Tensor  # factor of the surrogate
    log_ratio: torch.Tensor  # nats, log pi_learner_old - log pi_engine as it is; 0 where the engine gave no number
    cut: torch.Tensor  # bool: the weight is not the ratio, because the ratio lies beyond the cap


def is_known(engine_logprob: torch.Tensor) -> torch.Tensor:
    """Return [S] bool: the engine gave a number.

    An infinite one does not count, because no token of probability 0 is ever sampled.
    """
    return torch.isfinite(engine_logprob)


def log_importance(old_logprob: torch.Tensor, engine_logprob: torch.Tensor) -> torch.Tensor:
    """Return log pi_learner_old - log pi_engine per token, [S] nats; 0 where the engine gave no number."""
    return torch.where(is_known(engine_logprob), old_logprob - engine_logprob, torch.zeros_like(old_logprob))


def importance_weights(old_logprob: torch.Tensor, engine_logprob: torch.Tensor) -> torch.Tensor:
    """Return pi_learner_old / pi_engine per token, [S], uncapped; 1 where the engine gave no number."""
    return log_importance(old_logprob, engine_logprob).exp()


@torch.no_grad()
def importance_correction(
    old_logprob: torch.Tensor,
    engine_logprob: torch.Tensor,
    kind: Importance,
    cap: float,
    sequence: torch.Tensor | None = None,
) -> Correction:
    """The factor of each token, from natural-log probabilities [S] after temperature.

    `truncate`: min(rho_t, cap) with the token's ratio rho_t (truncated importance sampling: Yao et al. 2025, "Your
    efficient RL framework secretly brings you off-policy RL training").
    `mask_sequence`: the ratio of the whole sequence, rho = prod_t rho_t, for all its tokens if it lies within
    [1 / cap, cap], else 0 (masked importance sampling at sequence level: Liu, Li et al. 2025, "When speed kills
    stability: demystifying RL collapse from the training-inference mismatch"; arXiv 2510.26788, section 4; both cap
    from above only). The product, not its length-normalised root, because it is the ratio of what was sampled, whose
    weighted mean is unbiased; the price is that long sequences are dropped more often. `sequence` [S] tells the tokens'
    sequences. The weights of the kept ones don't grow for those dropped.
    `none`: 1.

    Raises ValueError without `sequence` in `mask_sequence`.
    """
    log_ratio = log_importance(old_logprob, engine_logprob)
    if kind == "mask_sequence":
        if sequence is None:
            raise ValueError("importance 'mask_sequence' needs the sequence of each token")
        log_of_sequence = sequence_sums(log_ratio, sequence)[sequence]
        cut = log_of_sequence.abs() > math.log(cap)
        return Correction(weight=log_of_sequence.exp().masked_fill(cut, 0.0), log_ratio=log_ratio, cut=cut)
    ratio = importance_weights(old_logprob, engine_logprob)
    if kind == "truncate":
        return Correction(weight=ratio.clamp(max=cap), log_ratio=log_ratio, cut=ratio > cap)
    return Correction(weight=torch.ones_like(ratio), log_ratio=log_ratio, cut=torch.zeros_like(ratio, dtype=torch.bool))


def effective_sample_share(log_weights: torch.Tensor) -> float:
    """Return (sum w)^2 / (n sum w^2) of n weights w given by their logarithms [n], in (0, 1]; 0 for none (Kish 1965).

    Computed relative to the largest weight and in float64, because the square of a ratio of e^45 overflows float32.
    """
    if not len(log_weights):
        return 0.0
    weights = (log_weights.double() - log_weights.double().max()).exp()
    return float(weights.sum() ** 2 / (len(weights) * (weights**2).sum()))
