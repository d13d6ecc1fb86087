"""Finds where the learner's way differs from the model's own: the first decoder layer with another output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from floe.learner.packing.packs import PrefixGroup, make_packs

MAX_DIFFERENCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}  # of a layer's output, relative
HEAD = "the head"


@torch.no_grad()
def first_difference(
    causal_lm: Any, group: PrefixGroup, own_way: Callable[[], Any], packed: Callable[[Any], object]
) -> str:
    """Return the name of the first layer whose output differs for the group's first answer, or the head's.

    `packed(pack)` runs the learner's way over a pack; within `own_way()` the model computes as it does itself.
    """
    (pack,) = make_packs([group], group.num_tokens)
    with _outputs(causal_lm) as ours:
        packed(pack.to(causal_lm.device))
    num_prompt, answer = len(group.prefix_ids), group.branches[0].token_ids
    ids = torch.tensor([group.prefix_ids + answer], device=causal_lm.device)
    with own_way(), _outputs(causal_lm) as theirs:
        causal_lm(input_ids=ids, use_cache=False)
    num_tokens = num_prompt + len(answer)  # the first branch follows the prefix
    for name, own in theirs.items():
        difference = (ours[name][:num_tokens] - own).norm() / own.norm().clamp_min(1e-9)
        if not difference <= MAX_DIFFERENCE[own.dtype]:
            return name
    return HEAD


@contextmanager
def _outputs(causal_lm: Any) -> Iterator[dict[str, torch.Tensor]]:
    """Collect the output [T, H] of each decoder layer by name, in their order."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            found[name] = (output[0] if isinstance(output, tuple) else output).detach().reshape(-1, output[0].shape[-1])

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in _layers(causal_lm)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _layers(causal_lm: Any) -> list[tuple[str, torch.nn.Module]]:
    """Return the elements of the decoder's list of layers: as many as its configuration says."""
    number = causal_lm.config.get_text_config().num_hidden_layers
    for name, module in causal_lm.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == number and "vision" not in name:
            return [(f"{name}.{index}", layer) for index, layer in enumerate(module)]
    return []
