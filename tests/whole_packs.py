"""The learner's way on a GPU, on a machine without one: packs, policies without memory, and what they dispatch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from floe.learner.device_kind import GPU, decisions_for
from floe.learner.families.target_logprob import target_logprobs
from floe.learner.packing.packs import Branch, Pack, PrefixGroup, make_packs
from floe.learner.policy import pack_attention, shared_prefix_attention
from floe.learner.policy.lora_linear import join_lora_products
from tests.tiny_models import tiny_llama_config

Lengths = tuple[int, Sequence[int]]  # of a prefix, and of its branches
META = torch.device("meta")


def pack_of(groups: Sequence[Lengths]) -> Pack:
    """Return all groups in one pack."""
    (pack,) = make_packs([_group(prefix, branches) for prefix, branches in groups], 10**9)
    return pack


def _group(num_prefix: int, lengths: Sequence[int]) -> PrefixGroup:
    branches = tuple(
        Branch(token_ids=tuple(range(2, 2 + length)), weight=0.5, engine_logprobs=(0.0,) * length) for length in lengths
    )
    return PrefixGroup(prefix_ids=tuple(number % 60 for number in range(num_prefix)), branches=branches)


@contextmanager
def packs_whole() -> Iterator[None]:
    """Decide as for a GPU, in float32 too, of which the CPU's arithmetic is exact; fails where no pack was whole."""
    own = pack_attention.pack_attention
    calls: list[int] = []

    def counted(*given: Any) -> torch.Tensor:
        calls.append(1)
        return own(*given)

    with (
        decisions_for(GPU),
        patch.object(pack_attention, "KERNEL_TYPES", (torch.float32, torch.float64)),
        patch.object(pack_attention, "pack_attention", counted),
    ):
        yield
    assert calls, "no pack was computed whole"


def meta_policy(*, checkpointing: bool = False, num_layers: int = 2) -> PeftModel:
    """Return a tiny policy in bfloat16 that has shapes and no values, so that a GPU's operations are dispatched."""
    config = tiny_llama_config(hidden_size=64, num_hidden_layers=num_layers)
    with META:
        base = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation=shared_prefix_attention.NAME
        )
    base.config.use_cache = False
    head = base.get_output_embeddings().weight
    base.output_head = SimpleNamespace(
        logprobs=lambda hidden, target, temperature: target_logprobs(hidden, head, target, temperature)
    )
    policy = get_peft_model(base, LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    if checkpointing:
        policy.enable_input_require_grads()
        policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    join_lora_products(policy)
    return policy.to(device=META, dtype=torch.bfloat16).train()
