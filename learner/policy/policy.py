"""The policy: base model plus LoRA adapters, and log-probabilities of packed tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoConfig, AutoModelForCausalLM

from floe.configs.errors import UserError
from floe.learner.families.family import ModelFamily, has_own_logits, learner_refusal
from floe.learner.families.output_head import OutputHead
from floe.learner.families.refusals import plain_config
from floe.learner.packing.packs import Branch, Pack, PrefixGroup, make_packs
from floe.learner.policy import shared_prefix_attention
from floe.learner.policy.lora_linear import join_lora_products

if TYPE_CHECKING:
    from floe.configs.schema import ModelSection
    from floe.configs.sections.learning_sections import LoraSection

POLICY = "default"
REFERENCE = "reference"
PROBE_DEVIATION = 0.2  # of the probe's weights: trained ones are some hundredths


def build_policy(
    model_dir: Path,
    model: ModelSection,
    lora: LoraSection,
    *,
    dropout: float,
    seed: int,
    initial: dict[str, torch.Tensor] | None,
    with_reference: bool,
    gradient_checkpointing: bool = False,
    device: torch.device | None = None,
    family: ModelFamily | None = None,
) -> PeftModel:
    """Return the base model with the trainable adapter, set to `initial` when given (PEFT names).

    With `with_reference` and `initial`, a frozen copy of `initial` is the second adapter; without `initial` the
    reference is the base model itself, so no copy is made. The weights go to `device` tensor by tensor, by default to
    the CPU: a model on its way to a GPU is never whole in the host's memory. `family` is a plug-in for what floe
    does not find out about the model by itself.
    """
    torch.manual_seed(seed)
    family = family or ModelFamily()
    model_config = plain_config(AutoConfig.from_pretrained(model_dir, trust_remote_code=False))
    if why := learner_refusal(family, model_config):
        raise UserError(f"The model in {model_dir} can't be trained: {why}.")
    base = AutoModelForCausalLM.from_pretrained(
        model_dir,
        config=model_config,
        trust_remote_code=False,
        dtype=getattr(torch, model.dtype),
        attn_implementation=shared_prefix_attention.NAME,
        device_map=None if device is None or device.type == "cpu" else {"": device},
    )
    base.output_head = OutputHead(base, logits=partial(family.logits, base) if has_own_logits(family) else None)
    base.floe_family = None if type(family) is ModelFamily else family
    return with_adapter(
        base,
        lora,
        dropout=dropout,
        initial=initial,
        with_reference=with_reference,
        gradient_checkpointing=gradient_checkpointing,
    )


def with_adapter(
    base: Any,
    lora: LoraSection,
    *,
    dropout: float,
    initial: dict[str, torch.Tensor] | None,
    with_reference: bool,
    gradient_checkpointing: bool,
) -> PeftModel:
    """Return the base model, which has its output head, with the adapters of `build_policy`."""
    base.config.use_cache = False
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=dropout,
        target_modules=list(lora.target_modules),
        task_type="CAUSAL_LM",
    )
    policy = get_peft_model(base, config, adapter_name=POLICY)
    if gradient_checkpointing:
        policy.enable_input_require_grads()
        policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if initial is not None:
        _set_adapter(policy, initial, POLICY)
        if with_reference:
            policy.add_adapter(REFERENCE, config)
            _set_adapter(policy, initial, REFERENCE)
            policy.set_adapter(POLICY)
    join_lora_products(policy)
    return policy


def _set_adapter(policy: PeftModel, tensors: dict[str, torch.Tensor], name: str) -> None:
    """Copy the tensors into an adapter. Raises UserError for those without a place, which PEFT passes over."""
    loaded: Any = set_peft_model_state_dict(policy, tensors, adapter_name=name)
    unknown = loaded.unexpected_keys
    if unknown:
        raise UserError(
            f"{len(unknown)} of the adapter's {len(tensors)} tensors have no place in the model, the first is "
            f"'{unknown[0]}': give the adapter of this model, or its own base as model.path."
        )


def adapter_tensors(policy: PeftModel) -> dict[str, torch.Tensor]:
    """Return the trainable adapter under plain PEFT names, bfloat16 or float32 as the model holds it, on the CPU."""
    state = get_peft_model_state_dict(policy, adapter_name=POLICY)
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def probe_tensors(adapter: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return random weights of the adapter's names, shapes and types, large enough to change every token's odds."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: (PROBE_DEVIATION * torch.randn(tensor.shape, generator=generator)).to(tensor.dtype)
        for name, tensor in sorted(adapter.items())
    }


def text_logprobs(policy: PeftModel, token_ids: Sequence[int]) -> list[float]:
    """Return [T - 1] of every token but the first, given those before it, at temperature 1."""
    later = tuple(token_ids[1:])
    branch = Branch(token_ids=later, weight=0.0, advantage=0.0, engine_logprobs=(0.0,) * len(later))
    (pack,) = make_packs([PrefixGroup(prefix_ids=tuple(token_ids[:1]), branches=(branch,))], len(token_ids))
    return packed_logprobs(policy, pack.to(policy.device), 1.0).tolist()


def answer_logprobs(
    policy: PeftModel, prompt_ids: Sequence[int], answers: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Return [answers][tokens] of answers to one prompt, at temperature 1."""
    branches = tuple(
        Branch(token_ids=tuple(answer), weight=0.0, engine_logprobs=(0.0,) * len(answer)) for answer in answers
    )
    group = PrefixGroup(prefix_ids=tuple(prompt_ids), branches=branches)
    (pack,) = make_packs([group], group.num_tokens)
    found = packed_logprobs(policy, pack.to(policy.device), 1.0)
    return [piece.tolist() for piece in found.split([len(answer) for answer in answers])]


def packed_logprobs(policy: PeftModel, pack: Pack, temperature: float) -> torch.Tensor:
    """Return [S] float32: the log-probability of each scored token after temperature.

    The LM head is computed at scored positions only.
    """
    causal_lm: Any = policy.get_base_model()
    family = getattr(causal_lm, "floe_family", None)
    hidden = causal_lm.base_model(
        input_ids=pack.input_ids,
        position_ids=pack.position_ids,
        use_cache=False,
        layout=pack.layout,
        pack_index=pack.index,
        **({} if family is None else {"family": family}),
    ).last_hidden_state[0]
    logprobs: torch.Tensor = causal_lm.output_head.logprobs(hidden[pack.source], pack.target, temperature)
    return logprobs


@torch.no_grad()
def reference_logprobs(policy: PeftModel, pack: Pack, temperature: float) -> torch.Tensor:
    """Return the same [S] under the policy before RL: the frozen adapter if there is one, else the base model."""
    if REFERENCE in policy.peft_config:
        policy.set_adapter(REFERENCE)
        try:
            return packed_logprobs(policy, pack, temperature)
        finally:
            policy.set_adapter(POLICY)  # PEFT then trains this one and freezes the other
    with policy.disable_adapter():
        return packed_logprobs(policy, pack, temperature)
