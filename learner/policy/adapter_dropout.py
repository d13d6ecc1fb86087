"""Dropout of the trained adapter: on in the pass that carries the gradient, off in every other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class AdapterDropout:
    """The dropout layers of one adapter of a policy; those of its other adapters stay off.

    A pass draws its masks from PyTorch's generator, which is set from the run's seed and the place of the pass. So a
    step that is made again has the same masks, whatever was computed before it. A prompt's tokens are computed once in
    a pack: all completions of its group there see one mask of it.
    """

    def __init__(self, policy: torch.nn.Module, adapter: str, seed: int) -> None:
        """Switch every dropout of the policy off."""
        self._seed = seed
        dropouts = {name: one for name, one in policy.named_modules() if isinstance(one, torch.nn.Dropout)}
        self._layers = [one for name, one in dropouts.items() if name.endswith(f".lora_dropout.{adapter}")]
        for one in dropouts.values():
            one.eval()

    @property
    def is_used(self) -> bool:
        """True where the adapter has a dropout above 0, for which PEFT makes layers."""
        return bool(self._layers)

    @contextmanager
    def drawn(self, step: int, update: int, pack: int) -> Iterator[None]:
        """Apply the masks of a pack: `pack` is its number in the update, `update` the number in the step, from 0.

        The backward pass belongs into the block: gradient checkpointing computes layers again there, for which it puts
        the generator back, so that they see the same masks.
        """
        if self.is_used:
            stream = f"{self._seed}/adapter-dropout/{step}/{update}/{pack}"
            torch.manual_seed(random.Random(stream).getrandbits(63))
        for layer in self._layers:
            layer.train()
        try:
            yield
        finally:
            for layer in self._layers:
                layer.eval()
