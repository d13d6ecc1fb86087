"""Sizes of a decoder layer's linear layers, from its model's configuration (pure)."""

from __future__ import annotations

from typing import Any


def projection_sizes(config: Any) -> dict[str, tuple[int, int]]:
    """Return (in, out) of a layer's seven projections, from numbers under transformers' names for them."""
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_attention_heads * head_size, config.num_key_value_heads * head_size
    return {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }


def adapter_sizes(config: Any) -> dict[str, tuple[int, int]]:
    """Return (in, out) of each linear layer of a decoder layer that an adapter may wrap, fused ones too."""
    sizes = projection_sizes(config)
    inputs, queries = sizes["q_proj"]
    inner = sizes["gate_proj"][1]
    fused = {"qkv_proj": (inputs, queries + 2 * sizes["k_proj"][1]), "gate_up_proj": (inputs, 2 * inner)}
    return sizes | fused
