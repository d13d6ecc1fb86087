"""Writes a model folder of a given shape with random weights, once."""

from __future__ import annotations

import shutil
from pathlib import Path

from floe.cluster.models.model_folder import made_once

TOKENIZER_FILES = ("*.json", "*.txt", "*.jinja")


def random_model(folder: Path, config_file: Path, tokenizer_dir: Path) -> Path:
    """Return the folder; `config_file` is the model's config.json, and the tokenizer's files are copied."""

    def write(beside: Path) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(0)
        shape = AutoConfig.from_pretrained(config_file)
        AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16).save_pretrained(beside, max_shard_size="2GB")
        for pattern in TOKENIZER_FILES:
            for path in tokenizer_dir.glob(pattern):
                if not path.name.startswith("config"):
                    shutil.copy(path, beside / path.name)

    return made_once(folder, write)
