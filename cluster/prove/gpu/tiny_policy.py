"""A tiny model of random weights, and its loss by the learner's way and by the model's own; without pydantic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, Qwen2Config

from floe.learner.loss.grpo_loss import grpo_loss
from floe.learner.packing.packs import Branch, PrefixGroup, make_packs
from floe.learner.policy.policy import adapter_tensors, build_policy, packed_logprobs, probe_tensors

VOCABULARY = 512
NUM_LAYERS = 2
TEMPERATURE = 0.8
ADAPTER_SCALE = 0.25  # scale of the probe's weights: larger than trained ones, but the model still works

Gradients = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainLora:
    """Fields of the section `lora` that the learner reads, for where pydantic may be missing."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainModel:
    """Fields of the section `model` that the learner reads."""

    dtype: str


def write_tiny(folder: Path, num_layers: int) -> Path:
    torch.manual_seed(0)
    shape = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        initializer_range=0.06,  # with transformers' 0.02 all tokens would be nearly as probable
    )
    AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
    return folder


def policy_of(
    model_dir: Path, device: torch.device, dtype: str, initial: dict[str, torch.Tensor] | None = None
) -> PeftModel:
    """Return the learner's policy with an adapter, random but the same each time where none is given."""
    lora: Any = PlainLora()
    model: Any = PlainModel(dtype=dtype)
    options: Any = {"dropout": 0.0, "seed": 0, "with_reference": False}
    if initial is None:
        fresh = build_policy(model_dir, model, lora, initial=None, **options)
        initial = {name: ADAPTER_SCALE * one for name, one in probe_tensors(adapter_tensors(fresh)).items()}
    policy = build_policy(model_dir, model, lora, initial=initial, **options)
    return on_device(policy, device, getattr(torch, dtype))


def on_device(policy: PeftModel, device: torch.device, dtype: torch.dtype) -> PeftModel:
    """Move it, and cast what DeepSpeed casts: the parameters, not the frequencies of the positions."""
    for parameter in policy.parameters():
        parameter.data = parameter.data.to(dtype)
    return policy.to(device)


def trained(policy: torch.nn.Module) -> Gradients:
    return {name: one for name, one in policy.named_parameters() if one.requires_grad}


def proof_groups(is_large: bool) -> list[PrefixGroup]:
    """Return groups of several completions and of one; large ones are too large for their scores to be in memory."""
    generator = torch.Generator().manual_seed(1)
    shapes: list[tuple[int, tuple[int, ...]]] = [(24, (12, 9, 7, 5)), (17, (8,)), (21, (6, 6, 4))]
    if is_large:
        shapes.append((1024, tuple(range(68, 132, 4))))
    num_tokens = sum(sum(lengths) for _, lengths in shapes)
    return [_group(num_prefix, lengths, 1 / num_tokens, generator) for num_prefix, lengths in shapes]


def _group(num_prefix: int, lengths: tuple[int, ...], weight: float, generator: torch.Generator) -> PrefixGroup:
    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(VOCABULARY, (count,), generator=generator).tolist())

    branches = tuple(
        Branch(
            token_ids=tokens(length),
            weight=weight,
            advantage=1.0 - number,
            engine_logprobs=tuple((-6 - torch.rand(length, generator=generator)).tolist()),
        )
        for number, length in enumerate(lengths)
    )
    return PrefixGroup(prefix_ids=tokens(num_prefix), branches=branches)


def packed_loss(policy: Any, groups: Sequence[PrefixGroup]) -> torch.Tensor:
    """Return the loss of all groups in one pack, as the learner computes it."""
    (pack,) = make_packs(groups, 10**9)
    pack = pack.to(policy.device)
    logprob = packed_logprobs(policy, pack, TEMPERATURE)
    return _loss(logprob, pack.engine_logprob, pack.advantage, pack.weight)


def own_loss(policy: PeftModel, groups: Sequence[PrefixGroup]) -> torch.Tensor:
    """Return the same with every completion computed alone, by the model's own forward and attention."""
    causal_lm: Any = policy.get_base_model()
    causal_lm.set_attn_implementation("eager")
    found: list[torch.Tensor] = []
    engine: list[float] = []
    advantage: list[float] = []
    weight: list[float] = []
    for group in groups:
        for branch in group.branches:
            ids = torch.tensor([group.prefix_ids + branch.token_ids])
            logits = causal_lm(input_ids=ids, use_cache=False).logits[0, len(group.prefix_ids) - 1 : -1]
            logprobs = (logits.float() / TEMPERATURE).log_softmax(dim=-1)
            found.append(logprobs.gather(1, torch.tensor(branch.token_ids)[:, None])[:, 0])
            engine += branch.engine_logprobs
            advantage += [branch.advantage] * len(branch.token_ids)
            weight += [branch.weight] * len(branch.token_ids)
    return _loss(torch.cat(found), *(torch.tensor(one) for one in (engine, advantage, weight)))


def _loss(logprob: torch.Tensor, engine: torch.Tensor, advantage: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return grpo_loss(
        logprob=logprob,
        old_logprob=logprob.detach(),
        engine_logprob=engine,
        advantage=advantage,
        weight=weight,
        clip_low=0.2,
        clip_high=0.2,
        importance_cap=2.0,
    ).loss


def gradients_of(policy: PeftModel, loss: torch.Tensor) -> Gradients:
    named = trained(policy)
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
