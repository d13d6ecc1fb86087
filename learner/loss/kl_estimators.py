"""Per-token estimators of KL(pi || pi_ref) from samples of pi (Schulman 2020, "Approximating KL Divergence")."""

from __future__ import annotations

import torch


def kl_k1(logprob: torch.Tensor, reference_logprob: torch.Tensor) -> torch.Tensor:
    """Return log pi - log pi_ref, [S] nats: unbiased, of either sign.

    For metrics only: as a loss, its gradient on samples of pi is 0 on average.
    """
    return logprob - reference_logprob


def kl_k2(logprob: torch.Tensor, reference_logprob: torch.Tensor) -> torch.Tensor:
    """Return (log pi - log pi_ref)^2 / 2, [S] nats: not negative, biased. For metrics only."""
    return (logprob - reference_logprob) ** 2 / 2


def kl_k3(logprob: torch.Tensor, reference_logprob: torch.Tensor) -> torch.Tensor:
    """Return exp(d) - d - 1, d = log pi_ref - log pi, [S] nats: not negative, unbiased (arXiv 2402.03300, eq. 4)."""
    difference = reference_logprob - logprob
    return torch.expm1(difference) - difference  # exp(d) - 1 would lose a small d to rounding
