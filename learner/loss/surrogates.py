"""Each token's contribution to the objective before importance and KL: GRPO, GSPO and CISPO (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from floe.learner.loss.per_sequence import sequence_means

Loss = Literal["grpo", "gspo", "cispo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrogate:
    """[S] each; the value alone carries a gradient."""

    value: torch.Tensor
    ratio: torch.Tensor  # the ratio that the clip looked at: of the token, or of its sequence
    clipped: torch.Tensor  # bool: the clip, not the ratio, decided


def surrogate(
    kind: Loss,
    *,
    logprob: torch.Tensor,
    old_logprob: torch.Tensor,
    advantage: torch.Tensor,
    clip_low: float,
    clip_high: float,
    sequence: torch.Tensor | None = None,
) -> Surrogate:
    """The objective's term of each token, to be maximised; tensors are [S], natural-log probabilities.

    `grpo`: min(r A, clip(r, 1 - low, 1 + high) A) with the token's ratio r = pi / pi_old (arXiv 2402.03300, eq. 3;
    separate clips: DAPO, arXiv 2503.14476, section 3.1).
    `gspo`: the same with the length-normalised ratio of the sequence, s = exp(mean_t log r_t), for all its tokens
    (arXiv 2507.18071, eq. 5 and 7: the plain form, not GSPO-token of section 4.3, whose value and gradient are equal
    where a sequence's tokens share weight, correction and advantage). The paper's clips are 3e-4 and 4e-4: s is near 1.
    `cispo`: sg(clip(r, 1 - low, 1 + high)) A log pi, sg without gradient: a clipped token still learns
    (arXiv 2506.13585, eq. 4 and 5). The paper puts no bound below, to which a `clip_low` near 1 comes close.

    Raises ValueError without `sequence` in `gspo`.
    """
    log_ratio = logprob - old_logprob
    if kind == "gspo":
        if sequence is None:
            raise ValueError("loss 'gspo' needs the sequence of each token")
        log_ratio = sequence_means(log_ratio, sequence)[sequence]
    ratio = log_ratio.exp()
    bounded = ratio.clamp(1 - clip_low, 1 + clip_high)
    if kind == "cispo":
        value = bounded.detach() * advantage * logprob
        return Surrogate(value=value, ratio=ratio.detach(), clipped=(bounded != ratio).detach())
    unclipped, clipped = ratio * advantage, bounded * advantage
    return Surrogate(
        value=torch.minimum(unclipped, clipped), ratio=ratio.detach(), clipped=(clipped < unclipped).detach()
    )
