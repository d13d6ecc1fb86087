"""Attention merged by log-sum-exp against the same attention with its scores in memory, and against its definition."""

import pytest
import torch

from floe.learner.families.attention_rules import AttentionRules
from floe.learner.packing.packs import Branch, PrefixGroup, make_packs
from floe.learner.policy import shared_prefix_attention
from floe.learner.policy.merged_attention import merged_attention
from floe.learner.policy.shared_prefix_attention import _branch_attention, _branches, _merged_branch_attention

SHAPES = [(1, 1, 1, 2, 1), (7, 3, 5, 4, 2), (50, 4, 9, 6, 2), (3, 2, 40, 3, 3), (33, 1, 2, 8, 1)]


def layout_of(num_prefix: int, num_branches: int, width: int):
    """Branches of different lengths, the first the longest."""
    lengths = [max(1, width - number) for number in range(num_branches)]
    branches = [Branch(token_ids=(1,) * length, weight=1.0) for length in lengths]
    if num_branches == 1:  # one alone would be laid out without branches
        branches.append(Branch(token_ids=(1,), weight=1.0))
    (pack,) = make_packs([PrefixGroup(prefix_ids=(1,) * num_prefix, branches=tuple(branches))], 10_000)
    return pack.input_ids.shape[1], pack.layout[0], pack.index.hidden_keys


@pytest.mark.parametrize(("num_prefix", "num_branches", "width", "num_heads", "num_kv"), SHAPES)
def test_both_ways_give_the_same_values_and_gradients(num_prefix, num_branches, width, num_heads, num_kv):
    num_tokens, layout, hidden = layout_of(num_prefix, num_branches, width)
    random = torch.Generator().manual_seed(num_prefix)
    tensors = [
        torch.randn(heads, num_tokens, 16, generator=random).requires_grad_() for heads in (num_heads, num_kv, num_kv)
    ]
    found = []
    span = slice(layout.prefix_start, layout.prefix_end)
    ways = (
        lambda: _branch_attention(*tensors, layout.branch_index, span, 0.25, hidden),
        lambda: _merged_branch_attention(*tensors, layout, 0.25),
    )
    for way in ways:
        out = way()[layout.branch_is_real]
        weight = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
        found.append((out.detach(), *torch.autograd.grad((out * weight).sum(), tensors)))
    for expected, merged in zip(*found, strict=True):
        torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_the_gradient_equals_finite_differences():
    random = torch.Generator().manual_seed(1)
    shapes = [(2, 4, 3, 8), (2, 2, 3, 8), (2, 2, 3, 8), (2, 5, 8), (2, 5, 8)]
    tensors = [torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_() for shape in shapes]
    assert torch.autograd.gradcheck(lambda *given: merged_attention(*given, 0.3), tensors)


def test_scores_are_kept_out_of_memory_where_they_are_large(monkeypatch):
    num_tokens, layout, hidden = layout_of(10, 3, 4)
    tensors = [torch.randn(2, num_tokens, 16, generator=torch.Generator().manual_seed(1)) for _ in range(3)]
    kept_out: list[bool] = []
    own = shared_prefix_attention.merged_attention
    monkeypatch.setattr(
        shared_prefix_attention, "merged_attention", lambda *given: kept_out.append(True) or own(*given)
    )
    num_bytes = 4 * 2 * 3 * 4 * (10 + 4)
    for limit, is_kept_out in ((num_bytes, False), (num_bytes - 1, True)):
        monkeypatch.setattr(shared_prefix_attention, "MAX_SCORES_BYTES", limit)
        _branches(*tensors, layout, 0.25, AttentionRules(), hidden)
        assert bool(kept_out) is is_kept_out


@pytest.mark.parametrize("rules", [AttentionRules(window=6), AttentionRules(score_cap=2.0)], ids=["window", "cap"])
def test_scores_under_a_rule_are_computed_a_few_branches_at_a_time_where_they_are_large(monkeypatch, rules):
    num_tokens, layout, hidden = layout_of(10, 5, 4)
    tensors = [
        torch.randn(2, num_tokens, 16, generator=torch.Generator().manual_seed(n)).requires_grad_() for n in range(3)
    ]
    found = []
    for limit in (10**9, 1):
        monkeypatch.setattr(shared_prefix_attention, "MAX_SCORES_BYTES", limit)
        out = _branches(*tensors, layout, 0.25, rules, hidden)[layout.branch_is_real]
        found.append((out.detach(), *torch.autograd.grad(out.square().sum(), tensors)))
    for at_once, in_pieces in zip(*found, strict=True):
        torch.testing.assert_close(in_pieces, at_once)
