"""Names the questions to look at when a loss or gradient is not finite (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from floe.learner.loss.grpo_loss import LossTerms
from floe.learner.loss.per_sequence import sequence_sums
from floe.learner.packing.packs import Pack


def largest_losses(packs: Sequence[Pack], terms: Sequence[LossTerms], limit: int = 3) -> str:
    """Return the questions with the largest loss of one completion, of either sign, and that loss: `q7 nan, q2 -0.31`.

    Losses that are not finite come first. A completion's loss is the sum over its tokens, in shares of the update's.
    """
    worst: dict[str, float] = {}
    for pack, term in zip(packs, terms, strict=True):
        sums = sequence_sums(term.token_loss, pack.sequence).tolist()
        for name, loss in zip(pack.sequence_names, sums, strict=False):  # the last branches may have no scored token
            if name not in worst or _size(loss) > _size(worst[name]):
                worst[name] = loss
    largest = sorted(worst.items(), key=lambda item: _size(item[1]), reverse=True)[:limit]
    return ", ".join(f"{name} {loss:.3g}" for name, loss in largest)


def _size(loss: float) -> float:
    return abs(loss) if math.isfinite(loss) else math.inf
