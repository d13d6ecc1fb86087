"""A LoRA adapter of random weights for a model's shape: what the benches of rollout and broadcast send around."""

from __future__ import annotations

from typing import Any

import torch

from configs.schema import LoraSection

DEVIATION = 0.02


def random_adapter(model: Any, lora: LoraSection, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    """Tensors under plain PEFT names; `model` is the configuration of a Llama- or Qwen2-like architecture."""
    head = getattr(model, "head_dim", None) or model.hidden_size // model.num_attention_heads
    attention, key_value = model.num_attention_heads * head, model.num_key_value_heads * head
    sizes = {  # module: inputs, outputs
        "self_attn.q_proj": (model.hidden_size, attention),
        "self_attn.k_proj": (model.hidden_size, key_value),
        "self_attn.v_proj": (model.hidden_size, key_value),
        "self_attn.o_proj": (attention, model.hidden_size),
        "mlp.gate_proj": (model.hidden_size, model.intermediate_size),
        "mlp.up_proj": (model.hidden_size, model.intermediate_size),
        "mlp.down_proj": (model.intermediate_size, model.hidden_size),
    }
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in range(model.num_hidden_layers):
        for module, (num_in, num_out) in sizes.items():
            if module.partition(".")[2] in lora.target_modules:
                stem = f"base_model.model.model.layers.{layer}.{module}"
                for name, shape in (("lora_A", (lora.rank, num_in)), ("lora_B", (num_out, lora.rank))):
                    weights = DEVIATION * torch.randn(shape, generator=generator)
                    tensors[f"{stem}.{name}.weight"] = weights.to(dtype)
    return tensors
