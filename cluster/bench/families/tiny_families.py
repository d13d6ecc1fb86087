"""Tiny models of every family: the class's configuration with small sizes, and values that make its rules matter."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

WINDOW = 24  # tokens, shorter than the texts that the table compares
HIDDEN, HEAD_SIZE = 128, 32  # the smallest head of the engine's attention on CPU
SIZES: dict[str, Any] = {
    "hidden_size": HIDDEN, "n_embd": HIDDEN, "d_model": HIDDEN, "word_embed_proj_dim": HIDDEN,
    "intermediate_size": 192, "ffn_dim": 192, "n_inner": 192, "intermediate_size_mlp": 192,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_attention_heads": 4, "n_head": 4, "n_heads": 4,
    "num_key_value_heads": 2, "head_dim": HEAD_SIZE, "global_head_dim": HEAD_SIZE, "query_pre_attn_scalar": HEAD_SIZE,
    "max_position_embeddings": 1024, "n_positions": 1024, "attention_chunk_size": WINDOW, "use_sliding_window": True,
    "max_window_layers": 0, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4,
    "num_experts_per_tok": 2, "moe_k": 2, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64,
    "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
    "q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32,
    "ffn_hidden_size": 192, "num_layers": 2, "moe_topk": 2, "zero_expert_num": 2, "expert_ffn_hidden_size": 64,
    "hidden_size_per_layer_input": 16, "num_kv_shared_layers": 0, "index_n_heads": 2, "index_head_dim": 16,
    "index_topk": 8,
    # Values at which a rule that is left out shows.
    "logits_scaling": 4.0, "logit_scale": 0.25, "embedding_multiplier": 2.0, "residual_multiplier": 0.5,
    "attention_multiplier": 0.25,
    # Dropouts with which some bases are published.
    "attention_dropout": 0.1, "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1, "residual_dropout": 0.1,
}  # fmt: skip
WINDOWED_BY_OPTION = ("mistral", "phi3", "starcoder2", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "mixtral")
MAX_PARAMETERS = 100_000_000  # limit for a tiny model: a multimodal one brings its vision tower along
WEIGHT_DEVIATION = 0.25  # large: otherwise every model with fresh weights gives about the same probabilities


def causal_families() -> dict[str, str]:
    """Return model types that transformers knows as causal language models, with the names of their classes."""
    return {
        name: one if isinstance(one, str) else one[0] for name, one in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items())
    }


def tiny_config(model_type: str, vocabulary: int) -> Any:
    """Return a small configuration of the family. Raises the class's own error where it accepts none."""
    config_class = CONFIG_MAPPING[model_type]
    whole = config_class()
    text = whole.get_text_config()
    known = set(vars(text))
    if is_dataclass(text):
        known |= {field.name for field in fields(text)}
    values = {name: value for name, value in SIZES.items() if name in known}
    values |= {"vocab_size": vocabulary, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if "vocab_size_per_layer_input" in known:
        values["vocab_size_per_layer_input"] = vocabulary
    if "sliding_window" in known and (text.sliding_window is not None or model_type in WINDOWED_BY_OPTION):
        values["sliding_window"] = WINDOW
    if "qk_rope_head_dim" in known:
        values["head_dim"] = values["qk_rope_head_dim"]
    if "full_attn_idxs" in known or model_type == "lfm2_moe":  # families whose other layers are convolutions
        values["layer_types"] = ["conv", "full_attention"]
    if getattr(text, "num_key_value_heads", 0) == getattr(text, "num_attention_heads", 1):
        values["num_key_value_heads"] = values["num_attention_heads"]
    if text is whole:
        return config_class(**values)
    return config_class(text_config=type(text)(**values).to_dict())


def write_tiny_model(folder: Path, config: Any, seed: int = 0) -> None:
    """Write a model of this configuration with random float32 weights. Raises the class's own errors."""
    with torch.device("meta"):
        num_parameters = sum(one.numel() for one in AutoModelForCausalLM.from_config(config).parameters())
    if num_parameters > MAX_PARAMETERS:
        raise ValueError(f"it has {num_parameters:,} parameters")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            parameter.data.copy_(WEIGHT_DEVIATION * noise)
        else:  # a norm's weight or a bias stays near its value
            parameter.data.add_(0.1 * noise)
    if "gemma" in config.model_type:
        _weaken_embeddings(model)
    model.save_pretrained(folder)


@torch.no_grad()
def _weaken_embeddings(model: Any) -> None:
    """Undo a family's scaling of its tied embeddings, with which each token would predict only itself."""
    scale = HIDDEN**0.5
    decoder = getattr(model.base_model, "language_model", model.base_model)
    decoder.get_input_embeddings().weight.div_(scale)
    decoder.norm.weight.add_(scale - 1)  # the logits are as far apart as before
