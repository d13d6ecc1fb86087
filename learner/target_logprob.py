"""Log-probability of target tokens from hidden states, without keeping logits: memory independent of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable

import torch

CHUNK_TOKENS = 128  # float32 logits held at a time: chunk x vocabulary


def target_logprobs(hidden: torch.Tensor, head: torch.Tensor, target: torch.Tensor, temperature: float) -> torch.Tensor:
    """[S] float32 log softmax(hidden @ head.T / temperature) at `target`.

    hidden [S, H], head [V, H] (frozen: it gets no gradient), target [S]. Each output's gradient with respect to its
    hidden state, (head[target] - softmax @ head) / temperature, is computed in the forward pass while the chunk's
    logits are at hand, so nothing of vocabulary size survives it.
    """
    return _TargetLogprob.apply(hidden, head, target, temperature)


def logprobs_by(
    logits_of: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, target: torch.Tensor, temperature: float
) -> torch.Tensor:
    """[S] the same for logits `logits_of(hidden)` [S, V] of any kind, each row's of its own hidden state alone."""
    return _LogprobBy.apply(hidden, target, temperature, logits_of)


class _KnownDirection(torch.autograd.Function):
    """The forward pass has kept each output's gradient with respect to its hidden state, the first of four inputs."""

    @staticmethod
    def backward(ctx, gradient):
        (direction,) = ctx.saved_tensors
        return direction * gradient[:, None].to(direction.dtype), None, None, None


class _TargetLogprob(_KnownDirection):
    @staticmethod
    def forward(ctx, hidden, head, target, temperature):
        needs_gradient = hidden.requires_grad
        logprob = torch.empty(len(target), dtype=torch.float32, device=hidden.device)
        direction = torch.empty_like(hidden) if needs_gradient else None
        for start in range(0, len(target), CHUNK_TOKENS):
            rows = slice(start, start + CHUNK_TOKENS)
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
    def forward(ctx, hidden, target, temperature, logits_of):
        logprob = torch.empty(len(target), dtype=torch.float32, device=hidden.device)
        direction = torch.empty_like(hidden) if hidden.requires_grad else None
        for start in range(0, len(target), CHUNK_TOKENS):
            rows = slice(start, start + CHUNK_TOKENS)
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
