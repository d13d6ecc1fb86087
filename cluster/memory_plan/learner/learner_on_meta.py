"""Runs the learner's own code on tensors with shapes and no memory, as on a GPU, to count the bytes that it holds.

Three layers of the model are run. The others are like them and are added: each keeps what the third keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from floe.cluster.memory_plan.learner.live_bytes import CUDA_BLOCK_BYTES, LiveBytes
from floe.cluster.memory_plan.learner.packs import PADDING, largest_pack_tokens
from floe.cluster.memory_plan.learner.work import Counting, MeasuredWork, Point, WorkLine
from floe.configs.schema import RunConfig
from floe.learner.equality.equality_check import MAX_EAGER_BYTES, own_logprobs, own_way
from floe.learner.families.output_head import OutputHead
from floe.learner.loss.grpo_loss import grpo_loss
from floe.learner.packing.packs import Branch, GroupLayout, Pack, PrefixGroup, make_packs
from floe.learner.policy.policy import packed_logprobs, with_adapter
from floe.learner.policy.shared_prefix_attention import MAX_SCORES_BYTES, NAME

FAMILIES = ("llama", "qwen2", "qwen3")  # every layer like the others, without windows, experts or a changed head
DEPTH = 3  # the inputs of the first two layers are held differently from all later ones
NUM_SHORT_GROUPS = 2, 4
ANSWER_TOKENS = 256  # of a gold query, at most; an assumption
TEMPERATURE = 0.8
META = torch.device("meta")

_flash = torch.ops.aten._scaled_dot_product_flash_attention
_efficient = torch.ops.aten._scaled_dot_product_efficient_attention
_by_scores = torch.ops.aten._scaled_dot_product_attention_math


def measured_work(config: RunConfig, model_config: PreTrainedConfig) -> MeasuredWork | None:
    """Return the source of what a run's learner holds; None for a model whose layers can't be told from two."""
    if model_config.model_type not in FAMILIES or getattr(model_config, "use_sliding_window", False):
        return None
    learner = _Learner(config, model_config)
    return MeasuredWork(
        Counting(learning=learner.learning, warm_start=learner.warm_start, own_forward=learner.own_forward)
    )


class _Learner:
    """The learner of one configuration, at a depth of three layers."""

    def __init__(self, config: RunConfig, model_config: PreTrainedConfig) -> None:
        self._config = config
        self._model_config = model_config
        self._num_heads = model_config.num_attention_heads
        self._num_layers = model_config.num_hidden_layers

    def learning(self, checkpointing: bool) -> tuple[WorkLine, ...]:
        count = partial(self._update, checkpointing, self._config.lora.dropout)
        return self._long(count), self._short(count)

    def warm_start(self, checkpointing: bool) -> tuple[WorkLine, ...]:
        count = partial(self._update, checkpointing, self._config.warm_start.lora_dropout)
        return self._long(count), self._short(count)

    def own_forward(self, checkpointing: bool) -> Point:
        """Return the heavier of attention that keeps its scores, as long as it may, and of PyTorch's own."""
        context = self._config.model.max_context_tokens
        longest_eager = math.isqrt(MAX_EAGER_BYTES // (4 * self._num_heads))
        points = [self._own_forward(checkpointing, num) for num in {context, min(context, longest_eager)}]
        heaviest = max(points, key=lambda point: point.peak_bytes)
        return replace(heaviest, num_tokens=context)

    def _long(self, count: Callable[[Pack], Point]) -> WorkLine:
        group_size = self._config.rollout.largest_group
        most = largest_pack_tokens(self._config)
        # A smaller group holds its scores, as the short ones do.
        least = max(most // 2, 2 * short_groups(1, group_size, self._num_heads).input_ids.shape[1])
        few, many = (count(on_meta(one_group(num, group_size))) for num in (least, max(most, 2 * least)))
        return WorkLine(few=few, many=many)

    def _short(self, count: Callable[[Pack], Point]) -> WorkLine:
        few, many = (
            count(on_meta(short_groups(num, self._config.rollout.largest_group, self._num_heads)))
            for num in NUM_SHORT_GROUPS
        )
        return WorkLine(few=few, many=many)

    def _policy(self, checkpointing: bool, dropout_share: float) -> Any:
        return policy_on_meta(self._config, self._model_config, checkpointing, dropout_share)

    def _update(self, checkpointing: bool, dropout_share: float, pack: Pack) -> Point:
        policy = self._policy(checkpointing, dropout_share)
        with counted(policy, [pack]) as live, as_on_gpu():
            return measured_update(policy, pack, self._num_layers, live)

    def _own_forward(self, checkpointing: bool, num_tokens: int) -> Point:
        policy = self._policy(checkpointing, 0.0)
        answer = min(ANSWER_TOKENS, self._config.rollout.max_new_tokens, num_tokens - 1)
        group = _group(num_tokens - answer, [answer])
        trained = [one for one in policy.parameters() if one.requires_grad]
        with counted(policy, []) as live, as_on_gpu(), own_way(policy, num_tokens), _kept(policy, live) as kept:
            own_logprobs(policy, [group], trained, True)
        return Point(
            num_tokens=num_tokens,
            kept_bytes=_deeper(kept[-1], kept, self._num_layers),
            peak_bytes=_deeper(live.peak_bytes, kept, self._num_layers),
        )


def policy_on_meta(
    config: RunConfig,
    model_config: PreTrainedConfig,
    checkpointing: bool,
    dropout_share: float,
    num_layers: int = DEPTH,
) -> Any:
    """Return the learner's policy with so many layers, without memory, and its gradients, which are learner's state."""
    values = {name: value for name, value in model_config.to_dict().items() if name != "layer_types"}
    shallow = type(model_config).from_dict(values | {"num_hidden_layers": num_layers})
    dtype = getattr(torch, config.model.dtype)
    with META:
        base = AutoModelForCausalLM.from_config(shallow, dtype=dtype, attn_implementation=NAME)
        base.output_head = OutputHead(base, is_plain=True)
        policy = with_adapter(
            base,
            config.lora,
            dropout=dropout_share,
            initial=None,
            with_reference=False,
            gradient_checkpointing=checkpointing,
        )
    policy.to(device=META, dtype=dtype)  # as DeepSpeed casts the adapter
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    return policy.train()


def measured_update(policy: Any, pack: Pack, num_layers: int, live: LiveBytes) -> Point:
    """Return what the forward and the backward pass of a pack add in a model of so many layers."""
    with _kept(policy, live) as kept:
        loss = loss_of(policy, pack)
    kept_at_end = live.num_bytes
    loss.backward()
    return Point(
        num_tokens=pack.input_ids.shape[1],
        kept_bytes=_deeper(kept_at_end, kept, num_layers),
        peak_bytes=_deeper(live.peak_bytes, kept, num_layers),
    )


def loss_of(policy: Any, pack: Pack) -> torch.Tensor:
    """Return the loss of a pack as an update computes it, with the KL term."""
    logprob = packed_logprobs(policy, pack, TEMPERATURE)
    return grpo_loss(
        logprob=logprob,
        old_logprob=logprob.detach(),
        engine_logprob=pack.engine_logprob,
        advantage=pack.advantage,
        weight=pack.weight,
        clip_low=0.2,
        clip_high=0.2,
        importance_cap=2.0,
        reference_logprob=torch.zeros_like(pack.weight),  # the reference's own pass leaves nothing else
        kl_coefficient=0.001,
        sequence=pack.sequence,
    ).loss


def on_meta(pack: Pack) -> Pack:
    """Return the pack without memory; which rows are real stays known, since it decides about shapes."""
    moved = pack.to(META)
    return replace(moved, layout=tuple(map(_with_masks, moved.layout, pack.layout)))


def one_group(num_tokens: int, group_size: int) -> Pack:
    """Return one group's pack that is completions but for a token, padded to twice their mean length."""
    width = PADDING * (num_tokens - 1) // group_size
    lengths = [max(1, width - 1)] * (group_size // 2) + [1] * (group_size - group_size // 2)
    missing = num_tokens - 1 - sum(lengths)
    lengths[0] += max(0, missing)
    (pack,) = make_packs([_group(1, lengths)], num_tokens + sum(lengths))
    return pack


def short_groups(num_groups: int, group_size: int, num_heads: int) -> Pack:
    """Return a pack of groups each of whose attention scores are just few enough to be held in memory."""
    width = max(1, math.isqrt(MAX_SCORES_BYTES // (4 * num_heads * 2 * group_size)))
    lengths = [width] * (group_size // 2) + [1] * (group_size - group_size // 2)
    (pack,) = make_packs([_group(width, lengths)] * num_groups, num_groups * (width + sum(lengths)))
    return pack


@contextmanager
def counted(policy: Any, packs: list[Pack]) -> Iterator[LiveBytes]:
    """Count what operations allocate in addition to the policy and the packs."""
    parameters = list(policy.parameters())
    before = [*parameters, *policy.buffers(), *(one.grad for one in parameters if one.grad is not None)]
    for pack in packs:
        before += [value for value in (getattr(pack, one.name) for one in fields(pack)) if torch.is_tensor(value)]
        before += [value for one in pack.layout for value in _tensors(one)]
    with _LiveOnMeta(before, CUDA_BLOCK_BYTES) as live:
        yield live


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Let operations that PyTorch composes differently for each device be composed as on a GPU."""
    kernels = torch.library.Library("aten", "IMPL")
    kernels.impl("scaled_dot_product_attention", _attention, "AutogradMeta")
    kernels.impl("dropout", _dropout, "AutogradMeta")
    try:
        yield
    finally:
        kernels._destroy()


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,
) -> torch.Tensor:  # fmt: skip
    """Compute attention by CUDA's kernel: flash in half precision, else the efficient one where there are as many
    heads.
    """
    made: tuple[torch.Tensor, ...]
    if attn_mask is None and query.dtype in (torch.bfloat16, torch.float16):
        made = _flash(query, key, value, dropout_p, is_causal, scale=scale)
    elif query.shape[1] == key.shape[1]:
        made = _efficient(query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale)
    else:
        made = _by_scores(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    return made[0]


def _dropout(tensor: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    """Apply dropout with the fused kernel of a GPU, which keeps a mask of bytes."""
    return torch.native_dropout(tensor, p, True)[0] if train and p > 0 else tensor


class _LiveOnMeta(LiveBytes):
    """Answers questions about values with yes: transformers asks whether positions are those of one text."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return True
        return super().__torch_dispatch__(func, types, args, kwargs)


@contextmanager
def _kept(policy: Any, live: LiveBytes) -> Iterator[list[int]]:
    """Yield the bytes that live after each layer of the first forward pass, in order, as they become known."""
    kept: list[int] = []

    def note(*_: Any) -> None:
        if len(kept) < DEPTH:
            kept.append(live.num_bytes)

    hooks = [layer.register_forward_hook(note) for layer in policy.get_base_model().base_model.layers]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _deeper(num_bytes: int, kept: list[int], num_layers: int) -> int:
    """Add the layers that were not run."""
    return num_bytes + (num_layers - DEPTH) * (kept[-1] - kept[-2])


def _group(num_prompt: int, lengths: list[int]) -> PrefixGroup:
    branches = tuple(
        Branch(token_ids=(0,) * num, weight=0.1, advantage=0.1, engine_logprobs=(0.0,) * num) for num in lengths
    )
    return PrefixGroup(prefix_ids=(0,) * num_prompt, branches=branches)


def _with_masks(moved: GroupLayout, real: GroupLayout) -> GroupLayout:
    masks = {
        one.name: getattr(real, one.name)
        for one in fields(real)
        if torch.is_tensor(getattr(real, one.name)) and getattr(real, one.name).dtype == torch.bool
    }
    return replace(moved, **masks)


def _tensors(layout: GroupLayout) -> list[torch.Tensor]:
    return [value for value in (getattr(layout, one.name) for one in fields(layout)) if torch.is_tensor(value)]
