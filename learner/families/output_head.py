"""Turns hidden states into log-probabilities as the model itself does: some scale, cap or shift the product."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import ModelOutput

from floe.learner.families.target_logprob import logprobs_by, target_logprobs

PROBE_ROWS = 4
PROBE_LOGIT = 100.0  # standard deviation of the probe's logits: caps are at 15 to 50
# difference to a plain product, of the largest logit: rounding in bfloat16 is below a third of it
MAX_PLAIN_DIFFERENCE = 1e-2

Logits = Callable[[torch.Tensor], torch.Tensor]  # [R, hidden] to [R, vocabulary]


@dataclass
class _Hidden(ModelOutput):  # type: ignore[misc]  # mypy doesn't read transformers
    """Decoder output that has hidden states and nothing else, whatever a family's own output may have."""

    last_hidden_state: torch.Tensor | None = None

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


class OutputHead:
    """The LM head of a causal language model, whose weight gets no gradient."""

    def __init__(self, causal_lm: Any, is_plain: bool | None = None, logits: Logits | None = None) -> None:
        """Find out by a few rows of noise whether the model's logits are a plain product with the head's weight.

        `is_plain` gives the answer for a model without values, as on the meta device. `logits` makes the logits in
        place of the model's own code.
        """
        self._causal_lm = causal_lm
        self._own_logits = logits
        if is_plain is None:
            is_plain = logits is None and _is_plain(causal_lm)
        self.is_plain = is_plain

    def logprobs(self, hidden: torch.Tensor, target: torch.Tensor, temperature: float) -> torch.Tensor:
        """Return the float32 log-probabilities [S] of the tokens `target` [S] after the hidden states [S, H]."""
        if self.is_plain:
            return target_logprobs(hidden, _weight(self._causal_lm), target, temperature)
        return logprobs_by(self._logits, hidden, target, temperature)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return own_logits(self._causal_lm, hidden) if self._own_logits is None else self._own_logits(hidden)


def own_logits(causal_lm: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Return the logits [R, V] that the model's own forward makes of hidden states [R, H]."""
    with _decoder_gives(causal_lm, hidden[None]):
        ids = torch.zeros(1, len(hidden), dtype=torch.int64, device=hidden.device)
        logits: torch.Tensor = causal_lm(input_ids=ids, use_cache=False).logits[0]
        return logits


@contextmanager
def _decoder_gives(causal_lm: Any, hidden: torch.Tensor) -> Iterator[None]:
    decoder = causal_lm.base_model
    own = decoder.forward
    decoder.forward = lambda *_, **__: _Hidden(last_hidden_state=hidden)
    try:
        yield
    finally:
        decoder.forward = own


@torch.no_grad()
def _is_plain(causal_lm: Any) -> bool:
    weight = _weight(causal_lm)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(PROBE_ROWS, weight.shape[1], generator=generator)
    noise[0] = 0.0  # a bias shows where the hidden state is 0
    # Long vectors, so that a cap shows.
    scale = PROBE_LOGIT / weight[: weight.shape[1]].float().std().cpu().clamp_min(1e-6) / weight.shape[1] ** 0.5
    hidden = (scale * noise).to(weight)
    found = own_logits(causal_lm, hidden).float()
    plain = torch.mm(hidden, weight.t()).float()
    has_no_bias = bool((found[0] == 0).all())
    return has_no_bias and bool((found - plain).abs().max() <= MAX_PLAIN_DIFFERENCE * plain.abs().max())


def _weight(causal_lm: Any) -> torch.Tensor:
    weight: torch.Tensor = causal_lm.get_output_embeddings().weight
    return weight
