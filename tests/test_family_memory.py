"""The memory plan of a user's own model: counted as it is, or refused; never another model's plan."""

from __future__ import annotations

import pytest
from transformers import AutoModelForCausalLM

from floe.cluster.bench.families.tiny_families import tiny_config
from floe.cluster.memory_plan.shapes.model_config import count
from floe.configs.errors import UserError


@pytest.mark.parametrize("model_type", ["llama", "qwen2_moe", "mixtral", "deepseek_v3", "phi3", "gemma3"])
def test_every_parameter_is_counted(model_type):
    config = tiny_config(model_type, 160)
    model = AutoModelForCausalLM.from_config(config)
    shape = count(model_type, config)
    assert shape.num_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_experts_count_for_what_a_token_passes_through():
    assert count("qwen2_moe", tiny_config("qwen2_moe", 160)).intermediate == 2 * 64 + 64


def test_a_shared_latent_is_what_the_cache_holds():
    config = tiny_config("deepseek_v3", 160)
    per_token = count("deepseek_v3", config).kv_bytes_per_token("float32")
    assert per_token == config.num_hidden_layers * (config.kv_lora_rank + config.qk_rope_head_dim) * 4


def test_fused_projections_can_be_adapted():
    shape = count("phi3", tiny_config("phi3", 160))
    assert {one.name for one in shape.projections} == {"qkv_proj", "gate_up_proj", "o_proj", "down_proj"}
    sizes = {one.name: (one.num_inputs, one.num_outputs) for one in shape.projections}
    rank = 8
    expected = 2 * rank * sum(sum(size) for size in (sizes["qkv_proj"], sizes["o_proj"]))
    assert shape.num_adapter_parameters(rank, ("qkv_proj", "o_proj")) == expected


@pytest.mark.parametrize("model_type", ["jamba", "qwen3_5_text", "lfm2", "bloom"])
def test_what_cant_be_trained_has_no_plan(model_type):
    with pytest.raises(UserError, match=f"can't be trained.*'{model_type}'"):
        count("own", tiny_config(model_type, 160))
