"""The cross-entropy of answers: the warm start's loss, and the supervised term of a step's loss."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from peft import PeftModel

from floe.learner.optimizer.deepspeed_engine import DeepSpeedEngine
from floe.learner.packing.packs import Pack, empty_pack
from floe.learner.packing.rank_balance import RankShare
from floe.learner.policy.policy import packed_logprobs


def cross_entropy(policy: PeftModel, pack: Pack) -> torch.Tensor:
    """Return the sum of `-weight log p` over the scored tokens, at temperature 1."""
    return -(packed_logprobs(policy, pack, 1.0) * pack.weight).sum()


def add_cross_entropy(engine: DeepSpeedEngine, policy: PeftModel, share: RankShare, coefficient: float) -> float:
    """Add `coefficient` times the gradient of this rank's share of the answers, and close the update.

    Returns the share's part of their cross-entropy, in nats per token, without the coefficient. All ranks make the same
    call. Raises FloatingPointError when the term is not finite.
    """
    total = 0.0
    for number in range(share.num_rounds):
        pack = share.packs[number] if number < len(share.packs) else empty_pack().to(policy.device)
        loss = cross_entropy(policy, pack)
        _check_finite(engine.gather, loss.item())
        total += loss.item()
        engine.backward(coefficient * loss, last=number == share.num_rounds - 1)
    return total


def _check_finite(gather: Callable[[float], list[float]], loss: float) -> None:
    bad = [value for value in gather(loss) if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(f"the supervised term (algorithm.supervised_coefficient) is {bad[0]}")
