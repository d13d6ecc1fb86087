"""A model folder of given dimensions with random weights and a tokenizer of single bytes, for benches alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from floe.cluster.memory_plan.shapes.published import PUBLISHED

MAX_SHARD_BYTES = 2 * 10**9  # of the order of the published models' files


def write_random_model(folder: Path, name: str) -> None:
    """Write the model; `name` is one of `PUBLISHED`. Weights in bfloat16, 2 bytes a parameter on the disk."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(**asdict(PUBLISHED[name]), max_position_embeddings=32_768)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size=MAX_SHARD_BYTES)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + 1, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["SELECT"], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(folder)
