"""Reads a model's own configuration and counts its parameters on the meta device; the only use of transformers here."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoConfig, PreTrainedConfig

from floe.cluster.memory_plan.shapes.model_shape import ModelShape, Projection
from floe.cluster.memory_plan.shapes.published import PUBLISHED, is_published, plain_name, published_shape
from floe.cluster.models.model_folder import model_folder
from floe.configs.errors import UserError
from floe.configs.model_families import mlp_width, text_part
from floe.configs.schema import RunConfig
from floe.configs.sections.learning_sections import ADAPTABLE

if TYPE_CHECKING:
    from floe.learner.families.family import ModelFamily

MAX_POSITIONS = 2**17  # of a published model; it changes no tensor's size


def shape_of(config: RunConfig) -> ModelShape:
    """Return the shape of `model.path`; of a hub model that is not listed here only the configuration is fetched.

    Raises UserError for a model that can't be found or has no such dimensions.
    """
    path = config.model.path
    if is_published(path):
        return published_shape(path)
    from floe.learner.family_plugin import family_of  # takes seconds, which the known models need not wait for

    return count(path, model_config_of(config), family_of(config.model, config.run.plugin_folder))


def model_config_of(config: RunConfig) -> PreTrainedConfig:
    """Return transformers' configuration of `model.path`. Raises UserError as `shape_of`."""
    path = config.model.path
    if is_published(path):
        return AutoConfig.for_model(**asdict(PUBLISHED[plain_name(path)]), max_position_embeddings=MAX_POSITIONS)
    return _read(model_folder(config, config.run.home_dir / "demo", weights=False))


def _read(folder: Path) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as fault:
        raise UserError(f"'{folder}' has no model configuration ({fault}): give the folder of a model.") from fault


def count(name: str, config: PreTrainedConfig, family: ModelFamily | None = None) -> ModelShape:
    """Build the model without memory for its weights and count its parameters. Raises UserError as `shape_of`."""
    from transformers import AutoModelForCausalLM  # takes seconds, which the known models need not wait for

    from floe.learner.families.family import ModelFamily, learner_refusal

    if why := learner_refusal(family or ModelFamily(), config):
        raise UserError(f"The model '{name}' can't be trained: {why}.")
    try:
        text = text_part(config)
        num_kv_heads, head_size = _cached_heads(text)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        found = Counter(
            (name.rpartition(".")[2], module.in_features, module.out_features)
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and name.rpartition(".")[2] in ADAPTABLE
        )
        return ModelShape(
            name=name,
            num_parameters=sum(parameter.numel() for parameter in model.parameters()),
            num_embedding_parameters=model.get_input_embeddings().weight.numel(),
            hidden=text.hidden_size,
            intermediate=mlp_width(config),
            num_layers=text.num_hidden_layers,
            num_heads=text.num_attention_heads,
            num_kv_heads=num_kv_heads,
            head_size=head_size,
            vocabulary=text.vocab_size,
            projections=tuple(
                Projection(name=leaf, num_inputs=inputs, num_outputs=outputs, count=number)
                for (leaf, inputs, outputs), number in found.items()
            ),
        )
    except (AttributeError, ValueError) as fault:
        raise UserError(
            f"The model '{name}' is not a decoder that the memory plan knows ({fault}): use a Llama- or Qwen2-like one."
        ) from fault


def _cached_heads(text: PreTrainedConfig) -> tuple[int, int]:
    """Return heads and their size in the KV cache; one compressed head where keys and values share a latent (MLA)."""
    latent = getattr(text, "kv_lora_rank", None)
    if latent:
        return 1, -(-(latent + text.qk_rope_head_dim) // 2)  # counted once, where keys and values count twice
    num_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return num_heads, getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
