"""The equality check at a start: which texts, how long, and within how much time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from peft import PeftModel

from floe.cluster.messages import EqualityReport, PromptWithAnswers
from floe.learner.equality.equality_check import check_equality
from floe.learner.packing.packs import Branch, PrefixGroup

WINDOW_NAMES = ("sliding_window", "attention_chunk_size", "window_size", "local_attention_window")
BEYOND_WINDOW_TOKENS = 8  # tokens of the prompt, so that its answers lie beyond the window too
GRADIENT_SHARE = 2 / 3  # of the work of a forward and a backward pass
MIN_PROMPT_TOKENS = 16


def check_policy(
    policy: PeftModel,
    texts: Sequence[PromptWithAnswers],
    max_context_tokens: int,
    limit_s: float,
    max_pack_tokens: int | None = None,
) -> EqualityReport:
    """Check the shorter texts with gradients, then all of them in one pack; see `GrpoLearner.check_equality`.

    The pack is no longer than those of the updates, `max_pack_tokens` or the context. Where it would be, the shorter
    texts lose the beginning of their prompts.
    """
    window = longest_window(policy.get_base_model().config, max_context_tokens)
    groups = [_group(text) for text in texts]
    groups[0] = lengthened(groups[0], window + BEYOND_WINDOW_TOKENS if window else 0)
    if max_pack_tokens is not None:
        groups = within(groups, max(max_pack_tokens, max_context_tokens))
    short = check_equality(policy, groups[1:], with_gradients=True)
    whole_s = short.seconds * sum(group.num_tokens for group in groups) / short.num_tokens
    left_s = limit_s - short.seconds
    with_gradients = whole_s <= left_s
    if not with_gradients:
        whole_s *= 1 - GRADIENT_SHARE
        if whole_s > left_s:
            num_kept = int(len(groups[0].prefix_ids) * left_s / whole_s)
            groups[0] = shortened(groups[0], max(num_kept, window + BEYOND_WINDOW_TOKENS if window else 0))
    report = check_equality(policy, groups, with_gradients=with_gradients)
    if report.gradient_difference is None:
        report = replace(report, gradient_difference=short.gradient_difference)
    return replace(report, seconds=report.seconds + short.seconds)


def longest_window(config: Any, max_context_tokens: int) -> int:
    """Return the most tokens that a windowed layer sees, of the windows that a run's texts reach; 0 for none."""
    text = config.get_text_config()
    windows = [getattr(text, name, None) for name in WINDOW_NAMES]
    return max((one for one in windows if isinstance(one, int) and 0 < one < max_context_tokens), default=0)


def lengthened(group: PrefixGroup, num_tokens: int) -> PrefixGroup:
    """Return the group with a prompt of at least `num_tokens`: the prompt repeated, with its end at the end."""
    times = -(-num_tokens // len(group.prefix_ids))
    return replace(group, prefix_ids=(group.prefix_ids * max(1, times))[-max(num_tokens, len(group.prefix_ids)) :])


def within(groups: list[PrefixGroup], max_tokens: int) -> list[PrefixGroup]:
    """Return the groups; all but the first are shortened alike where they have more tokens together."""
    too_many = sum(group.num_tokens for group in groups) - max_tokens
    if too_many <= 0:
        return groups
    longest, *others = groups
    num_prompt = sum(len(group.prefix_ids) for group in others)
    kept_share = max(0.0, 1 - too_many / num_prompt)
    return [longest, *(shortened(group, int(kept_share * len(group.prefix_ids))) for group in others)]


def shortened(group: PrefixGroup, num_tokens: int) -> PrefixGroup:
    """Return the group with only the end of its prompt."""
    return replace(group, prefix_ids=group.prefix_ids[-max(num_tokens, MIN_PROMPT_TOKENS) :])


def _group(text: PromptWithAnswers) -> PrefixGroup:
    branches = tuple(Branch(token_ids=answer, weight=1.0) for answer in text.answers)
    return PrefixGroup(prefix_ids=text.prompt_token_ids, branches=branches)
