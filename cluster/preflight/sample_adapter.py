"""A LoRA adapter of random weights for a model's shape, which the benches of rollout and broadcast send."""

from __future__ import annotations

from typing import Any

import torch

from floe.cluster.memory_plan.shapes.projections import adapter_sizes
from floe.configs.sections.learning_sections import LoraSection

DEVIATION = 0.02
OF_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def random_adapter(model: Any, lora: LoraSection, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return tensors in bfloat16 under plain PEFT names; `model` is a Llama- or Qwen2-like configuration."""
    sizes = adapter_sizes(model)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(model.num_hidden_layers):
        for name in lora.target_modules:
            num_in, num_out = sizes[name]
            stem = f"base_model.model.model.layers.{layer}.{'self_attn' if name in OF_ATTENTION else 'mlp'}.{name}"
            for part, shape in (("lora_A", (lora.rank, num_in)), ("lora_B", (num_out, lora.rank))):
                tensors[f"{stem}.{part}.weight"] = (DEVIATION * torch.randn(shape, generator=generator)).bfloat16()
    return tensors
