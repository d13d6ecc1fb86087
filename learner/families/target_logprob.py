"""Log-probability of target tokens from hidden states, without keeping logits: memory independent of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from floe.learner.custom_gradient import applied
from floe.learner.device_kind import CPU, device_kind

# Rows whose float32 logits (rows x vocabulary) are held at a time. A chunk's product reads the whole head. A GPU that
# does some 300 operations in the time of reading a byte waits for memory with fewer rows than that in half precision.
CHUNK_TOKENS_ON_CPU, CHUNK_TOKENS_ON_GPU = 128, 512


def chunk_tokens(kind: str) -> int:
    """Return how many tokens' logits are held at a time on a device of this kind, `cpu` or `cuda`."""
    return CHUNK_TOKENS_ON_CPU if kind == CPU else CHUNK_TOKENS_ON_GPU


def target_logprobs(hidden: torch.Tensor, head: torch.Tensor, target: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the float32 log softmax(hidden @ head.T / temperature) at `target`, [S].

    hidden [S, H], head [V, H] (frozen: it gets no gradient), target [S]. Each output's gradient with respect to its
    hidden state, (head[target] - softmax @ head) / temperature, is computed in the forward pass while the chunk's
    logits are at hand, so nothing of vocabulary size is kept.
    """
    return applied(_TargetLogprob, hidden, head, target, temperature)


def logprobs_by(
    logits_of: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, target: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the same [S] for logits `logits_of(hidden)` [S, V] of any kind, each row from its own hidden state."""
    return applied(_LogprobBy, hidden, target, temperature, logits_of)


def _chunks(hidden: torch.Tensor) -> list[slice]:
    num_rows = chunk_tokens(device_kind(hidden.device))
    return [slice(start, start + num_rows) for start in range(0, len(hidden), num_rows)]


class _KnownDirection(torch.autograd.Function):
    """Uses the gradients for the hidden states, the first of four inputs, which the forward pass has kept."""

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (direction,) = ctx.saved_tensors
        return direction * gradient[:, None].to(direction.dtype), None, None, None


class _TargetLogprob(_KnownDirection):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, head: torch.Tensor, target: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        needs_gradient = hidden.requires_grad
        logprob = torch.empty(len(target), dtype=torch.float32, device=hidden.device)
        direction = torch.empty_like(hidden) if needs_gradient else None
        for rows in _chunks(hidden):
            logits = torch.mm(hidden[rows], head.t()).float()
            if temperature != 1.0:
                logits.mul_(1 / temperature)
            log_total = logits.logsumexp(dim=1)
            logprob[rows] = logits.gather(1, target[rows, None])[:, 0] - log_total
            if direction is not None:
                share = logits.sub_(log_total[:, None]).exp_().to(head.dtype)
                direction[rows] = (head[target[rows]] - torch.mm(share, head)) / temperature
        if direction is not None:
            ctx.save_for_backward(direction)
        return logprob


class _LogprobBy(_KnownDirection):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        target: torch.Tensor,
        temperature: float,
        logits_of: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        logprob = torch.empty(len(target), dtype=torch.float32, device=hidden.device)
        direction = torch.empty_like(hidden) if hidden.requires_grad else None
        for rows in _chunks(hidden):
            with torch.set_grad_enabled(direction is not None):
                chunk = hidden[rows].detach().requires_grad_(direction is not None)
                logits = logits_of(chunk).float() / temperature
                found = logits.gather(1, target[rows, None])[:, 0] - logits.logsumexp(dim=1)
                logprob[rows] = found.detach()
                if direction is not None:
                    (direction[rows],) = torch.autograd.grad(found.sum(), chunk)
        if direction is not None:
            ctx.save_for_backward(direction)
        return logprob
