"""Adapters as PEFT writes them, for tests of runs that start from one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from floe.learner.adapter.files import WEIGHTS

RANK, ALPHA, TARGETS = 8, 24, ("q_proj", "down_proj")


def save_adapter(
    folder: Path, base: Path, *, dtype: torch.dtype = torch.float32, seed: int = 5, **options: Any
) -> Path:
    """Save an adapter of random A and B, large enough to move every logit, with PEFT's own call."""
    from safetensors.torch import load_file, save_file

    settings = {"r": RANK, "lora_alpha": ALPHA, "target_modules": list(TARGETS), "task_type": "CAUSAL_LM"} | options
    torch.manual_seed(seed)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**settings))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    adapted.save_pretrained(folder)
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def peft_logprobs(base: Path, folder: Path | None, token_ids: list[int]) -> torch.Tensor:
    """Return [T - 1] of every token but the first, as PEFT computes them in float32; None: of the base alone."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if folder is not None:
        model = PeftModel.from_pretrained(model, folder)
    tokens = torch.tensor([token_ids])
    with torch.no_grad():
        logits = model.eval()(input_ids=tokens).logits[0, :-1]
    return logits.log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]
