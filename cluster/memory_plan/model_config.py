"""The only use of transformers here: a model's own configuration, and its parameters counted on the meta device."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from cluster.embedded_models import SMOLLM2, TINY_QWEN2, model_folder
from cluster.memory_plan.model_shape import ModelShape, Projection
from configs.errors import UserError
from configs.learning_sections import SEVEN_PROJECTIONS
from configs.schema import RunConfig

QWEN = "Qwen/Qwen2.5-Coder"
INSTRUCT = "-Instruct"


def _qwen2(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, **others: Any) -> dict[str, Any]:
    return {
        "model_type": "qwen2",
        "vocab_size": 151_936,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "tie_word_embeddings": True,
        **others,
    }


# Published dimensions of models that a plan must not need a connection for.
PUBLISHED: dict[str, dict[str, Any]] = {
    f"{QWEN}-0.5B": _qwen2(896, 4864, 24, 14, 2),
    f"{QWEN}-1.5B": _qwen2(1536, 8960, 28, 12, 2),
    f"{QWEN}-3B": _qwen2(2048, 11_008, 36, 16, 2),
    f"{QWEN}-7B": _qwen2(3584, 18_944, 28, 28, 4, vocab_size=152_064, tie_word_embeddings=False),
    SMOLLM2: {
        "model_type": "llama",
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
    TINY_QWEN2: _qwen2(128, 384, 3, 4, 2, vocab_size=3000),
}


def shape_of(config: RunConfig) -> ModelShape:
    """Of `model.path`; of a hub model that is not written down here the configuration alone is fetched.

    Raises UserError for a model that can't be found or has no such dimensions.
    """
    path = config.model.path
    if path.removesuffix(INSTRUCT) in PUBLISHED:
        return count_published(path)
    folder = model_folder(config, config.run.home_dir / "demo", weights=False)
    return count(path, _read(folder))


def count_published(name: str) -> ModelShape:
    """Of a model in `PUBLISHED`, base or instruct."""
    return count(name, AutoConfig.for_model(**PUBLISHED[name.removesuffix(INSTRUCT)]))


def _read(folder: Path) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as fault:
        raise UserError(f"'{folder}' has no model configuration ({fault}): give the folder of a model.") from fault


def count(name: str, config: PreTrainedConfig) -> ModelShape:
    """Builds the model without memory for its weights and counts what it has. Raises UserError as `shape_of`."""
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        found = Counter(
            (name.rpartition(".")[2], module.in_features, module.out_features)
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and name.rpartition(".")[2] in SEVEN_PROJECTIONS
        )
        return ModelShape(
            name=name,
            num_parameters=sum(parameter.numel() for parameter in model.parameters()),
            num_embedding_parameters=model.get_input_embeddings().weight.numel(),
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            num_kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            head_size=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            vocabulary=config.vocab_size,
            projections=tuple(
                Projection(name=leaf, num_inputs=inputs, num_outputs=outputs, count=number)
                for (leaf, inputs, outputs), number in found.items()
            ),
        )
    except (AttributeError, ValueError) as fault:
        raise UserError(
            f"The model '{name}' is not a decoder that the memory plan knows ({fault}): use a Llama- or Qwen2-like one."
        ) from fault
