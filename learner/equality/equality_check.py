"""Checks that the learner computes the model that it was given: its packed way against the model's own forward.

The learner replaces attention, the head and the LoRA products. For a family where one of these is not what the model
does, it would train on other log-probabilities than it samples from, and no step would fail.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel

from floe.cluster.messages import EqualityReport
from floe.configs.errors import UserError
from floe.learner.equality.first_difference import first_difference
from floe.learner.packing.packs import PrefixGroup, make_packs
from floe.learner.policy.lora_linear import stock_lora_products
from floe.learner.policy.policy import packed_logprobs
from floe.learner.policy.shared_prefix_attention import NAME

PROBE_DEVIATION = 0.02  # standard deviation of the probe's B, about what training makes of it; A stays as it is
MAX_EAGER_BYTES = 2**29  # float32 scores of a layer; above this size PyTorch's own attention is used for the model
# Differences that rounding explains: the mean absolute one of a token's log-probability in nats, and that of the
# gradient relative to its norm; docs/families.md has what was measured.
MAX_LOGPROB_DIFFERENCE = {torch.float32: 2e-3, torch.bfloat16: 0.2, torch.float16: 0.05}
MAX_GRADIENT_DIFFERENCE = {torch.float32: 1e-2, torch.bfloat16: 0.5, torch.float16: 0.2}


def check_equality(policy: PeftModel, groups: Sequence[PrefixGroup], *, with_gradients: bool) -> EqualityReport:
    """Compare log-probabilities, and the gradients of A and B, over one pack of `groups`, with random weights in B.

    The adapter is afterwards what it was. The model's own forward runs one sequence at a time, with the head over the
    answers alone. Raises UserError that names the model and the place where the difference is more than rounding.
    """
    started_s = time.perf_counter()
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    with _probe_weights(policy):
        ours, our_gradient = _packed(policy, groups, trained, with_gradients)
        with own_way(policy, max(map(_longest, groups))):
            theirs, their_gradient = own_logprobs(policy, groups, trained, with_gradients)
        difference = (ours - theirs).abs()
        report = EqualityReport(
            num_tokens=sum(group.num_tokens for group in groups),
            longest_text_tokens=max(map(_longest, groups)),
            mean_difference=float(difference.mean()),
            max_difference=float(difference.max()),
            gradient_difference=_relative(our_gradient, their_gradient) if with_gradients else None,
            seconds=time.perf_counter() - started_s,
        )
        _refuse_beyond_rounding(policy, groups, report)
    return report


def _refuse_beyond_rounding(policy: PeftModel, groups: Sequence[PrefixGroup], report: EqualityReport) -> None:
    dtype = next(policy.parameters()).dtype
    causal_lm: Any = policy.get_base_model()
    name = f"'{causal_lm.config._name_or_path}' ({causal_lm.config.model_type})"
    has_plugin = getattr(causal_lm, "floe_family", None) is not None
    remedy = "correct the plug-in of model.family" if has_plugin else "use another model, and report this one"
    # Negated, so that a NaN fails too.
    if not report.mean_difference <= MAX_LOGPROB_DIFFERENCE[dtype]:
        longest = max(groups, key=_longest)
        place = first_difference(
            causal_lm,
            longest,
            lambda: own_way(policy, _longest(longest)),
            lambda pack: packed_logprobs(policy, pack, 1.0),
        )
        raise UserError(
            f"The learner does not compute the model {name} as the model itself does: over {report.num_tokens} tokens "
            f"a log-probability differs by {report.mean_difference:.3g} nats on average ({report.max_difference:.3g} "
            f"at most, {MAX_LOGPROB_DIFFERENCE[dtype]:g} is rounding), first in {place}: {remedy}."
        )
    gradient = report.gradient_difference
    if gradient is not None and not gradient <= MAX_GRADIENT_DIFFERENCE[dtype]:
        raise UserError(
            f"The learner's gradient for the model {name} is not the model's own: over {report.num_tokens} tokens it "
            f"differs by {gradient:.3g} of its norm ({MAX_GRADIENT_DIFFERENCE[dtype]:g} is rounding): {remedy}."
        )


def _packed(
    policy: PeftModel, groups: Sequence[PrefixGroup], trained: Sequence[torch.nn.Parameter], with_gradients: bool
) -> tuple[torch.Tensor, Sequence[torch.Tensor | None]]:
    """Return the log-probabilities [S], and the gradients of their mean with respect to `trained`."""
    (pack,) = make_packs(groups, sum(group.num_tokens for group in groups))
    pack = pack.to(policy.device)
    with torch.set_grad_enabled(with_gradients):
        logprobs = packed_logprobs(policy, pack, 1.0)
        # autograd.grad, because it does not trigger DeepSpeed's hooks on the parameters.
        gradient = torch.autograd.grad(logprobs.mean(), trained, allow_unused=True) if with_gradients else ()
    return logprobs.detach(), gradient


def own_logprobs(
    policy: PeftModel, groups: Sequence[PrefixGroup], trained: Sequence[torch.nn.Parameter], with_gradients: bool
) -> tuple[torch.Tensor, Sequence[torch.Tensor | None]]:
    """Return the log-probabilities [S] and their gradients by the model's own forward, in the order of the pack."""
    pieces: list[torch.Tensor] = []
    total: list[torch.Tensor | None] = [None] * len(trained)
    num_scored = sum(len(branch.token_ids) for group in groups for branch in group.branches)
    for group in groups:
        for branch in group.branches:
            ids = torch.tensor([group.prefix_ids + branch.token_ids], device=policy.device)
            target = ids[0, -len(branch.token_ids) :]
            with torch.set_grad_enabled(with_gradients):
                logits = _logits_of_answer(policy, ids, len(target))
                found = logits.log_softmax(dim=-1).gather(1, target[:, None])[:, 0]
                if with_gradients:
                    parts = torch.autograd.grad(found.sum() / num_scored, trained, allow_unused=True)
                    total = [_added(one, part) for one, part in zip(total, parts, strict=True)]
            pieces.append(found.detach())
    return torch.cat(pieces), total


def _logits_of_answer(policy: PeftModel, ids: torch.Tensor, num_answer: int) -> torch.Tensor:
    """Return the float32 logits [A, V] that predict the last A of the tokens `ids` [1, T]."""
    logits = policy.get_base_model()(input_ids=ids, use_cache=False, logits_to_keep=num_answer + 1).logits[0]
    of_answer: torch.Tensor = logits[-num_answer - 1 : -1].float()
    return of_answer


def _added(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    if one is None or other is None:
        return one if other is None else other.float()
    return one + other.float()


def _relative(ours: Sequence[torch.Tensor | None], theirs: Sequence[torch.Tensor | None]) -> float:
    """Return the norm of the difference over the norm of the model's own gradient."""
    squares = distance = 0.0
    for one, other in zip(ours, theirs, strict=True):
        if one is None and other is None:
            continue
        mine = torch.zeros(()) if one is None else one.float()
        own = torch.zeros(()) if other is None else other
        squares += float(own.square().sum())
        distance += float((mine - own).square().sum())
    return math.sqrt(distance / squares) if squares > 0 else math.nan


def _longest(group: PrefixGroup) -> int:
    return len(group.prefix_ids) + max(len(branch.token_ids) for branch in group.branches)


@contextmanager
def _probe_weights(policy: PeftModel) -> Iterator[None]:
    """Give B random weights: it is 0 in a new adapter, and no gradient would reach A."""
    generator = torch.Generator().manual_seed(0)
    kept = []
    for name, parameter in policy.named_parameters():
        if parameter.requires_grad and ".lora_B." in name:
            kept.append((parameter, parameter.detach().clone()))
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(PROBE_DEVIATION * noise)
    try:
        yield
    finally:
        for parameter, before in kept:
            parameter.data.copy_(before)


@contextmanager
def own_way(policy: PeftModel, num_tokens: int) -> Iterator[None]:
    """Run the model with transformers' attention and PEFT's products."""
    causal_lm: Any = policy.get_base_model()
    heads = causal_lm.config.get_text_config().num_attention_heads
    is_short = 4 * heads * num_tokens**2 <= MAX_EAGER_BYTES
    causal_lm.set_attn_implementation("eager" if is_short or not causal_lm._supports_sdpa else "sdpa")
    try:
        with stock_lora_products(policy):
            yield
    finally:
        causal_lm.set_attn_implementation(NAME)
