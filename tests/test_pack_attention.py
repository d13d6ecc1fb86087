"""Attention over all groups of a pack at once, as on a GPU: against the way group by group, and what it dispatches."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from floe.learner.device_kind import GPU, decisions_for
from floe.learner.families.target_logprob import chunk_tokens, target_logprobs
from floe.learner.packing.packs import Pack
from floe.learner.policy import pack_attention, shared_prefix_attention
from floe.learner.policy.policy import packed_logprobs
from floe.learner.policy.shared_prefix_attention import shared_prefix_attention as attention
from tests.device_waits import Watch
from tests.whole_packs import META, Lengths, meta_policy, pack_of, packs_whole

GROUPS: list[Lengths] = [(20, (5, 3, 9)), (4, (2,)), (11, (6, 6)), (1, (1, 2, 3))]


def tensors_of(pack: Pack, num_kv: int = 2, per_kv: int = 2, size: int = 8, seed: int = 0) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    num_tokens = pack.input_ids.shape[1]
    return [
        torch.randn(1, heads, num_tokens, size, generator=random).requires_grad_()
        for heads in (num_kv * per_kv, num_kv, num_kv)
    ]


def found_by(pack: Pack, tensors: list[torch.Tensor], **rules) -> list[torch.Tensor]:
    """Return output and gradients."""
    out, _ = attention(None, *tensors, None, layout=pack.layout, pack_index=pack.index, **rules)
    return with_gradients(out, tensors)


def with_gradients(out: torch.Tensor, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    weight = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), tensors)]


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))


some_lengths = st.lists(st.integers(1, 9), min_size=1, max_size=5)
some_groups = st.lists(st.tuples(st.integers(1, 20), some_lengths), min_size=1, max_size=6)


@settings(max_examples=30)
@given(groups=some_groups, per_kv=st.sampled_from([1, 2, 4]), seed=st.integers(0, 99))
def test_a_pack_whole_is_the_pack_group_by_group(groups, per_kv, seed):
    pack = pack_of(groups)
    tensors = tensors_of(pack, per_kv=per_kv, seed=seed)
    expected = found_by(pack, tensors)
    with packs_whole():
        assert_same(found_by(pack, tensors), expected)


def test_the_kernel_of_a_gpu_gets_and_gives_the_right_shapes_and_types():
    """It can't run here; its shapes are worked out without a device."""
    pack = pack_of(GROUPS).to(META)
    tensors = [one.to(META, torch.bfloat16).detach().requires_grad_() for one in tensors_of(pack)]
    out, _ = attention(None, *tensors, None, layout=pack.layout, pack_index=pack.index)
    num_tokens = pack.input_ids.shape[1]
    assert (out.shape, out.dtype) == ((1, num_tokens, 4, 8), torch.bfloat16)
    gradients = torch.autograd.grad(out.sum(), tensors)
    assert [(one.shape, one.dtype) for one in gradients] == [(one.shape, one.dtype) for one in tensors]


def num_dispatched(groups: list[Lengths], *, checkpointing: bool) -> int:
    """Return the operations of a forward and a backward pass."""
    policy, pack = meta_policy(checkpointing=checkpointing), pack_of(groups).to(META)
    with Watch() as watch:
        packed_logprobs(policy, pack, 1.0).sum().backward()
    return sum(watch.counts.values())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_many_small_groups_dispatch_no_more_than_one_of_as_many_tokens(checkpointing):
    small: list[Lengths] = [(20, (5, 3, 6, 6))] * 15
    large: list[Lengths] = [(300, (5, 3, 6, 6) * 15)]
    assert pack_of(small).input_ids.shape == pack_of(large).input_ids.shape
    one = num_dispatched(large, checkpointing=checkpointing)
    assert num_dispatched(small, checkpointing=checkpointing) <= 1.5 * one


def stand_in(dtype: torch.dtype, *shape: int) -> SimpleNamespace:
    return SimpleNamespace(shape=shape, dtype=dtype, device=torch.device("cuda", 0))


def test_the_kernel_is_asked_for_what_it_takes(monkeypatch):
    half = stand_in(torch.bfloat16, 1, 4, 10, 64)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6))
    assert pack_attention.takes(half, half)
    for refused in ((torch.float32, 64), (torch.bfloat16, 12), (torch.bfloat16, 256)):
        one = stand_in(refused[0], 1, 4, 10, refused[1])
        assert not pack_attention.takes(one, one)
    assert not pack_attention.takes(half, stand_in(torch.bfloat16, 1, 4, 10, 32))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert not pack_attention.takes(half, half)


RULES = {
    "float32": {},
    "window": {"sliding_window": 6},
    "cap": {"softcap": 2.0},
    "sinks": {"s_aux": torch.tensor([0.5, -1.0, 2.0, 0.0])},
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_what_the_kernel_of_a_gpu_does_not_take_is_computed_in_blocks_there(monkeypatch, rules):
    """PyTorch's other kernels there take shared key heads for none of these: they would keep every score."""
    monkeypatch.setattr(shared_prefix_attention, "QUERY_BLOCK", 16)
    pack = pack_of([(160, (40, 30)), *GROUPS])
    tensors = tensors_of(pack)
    expected = found_by(pack, tensors, **rules)
    monkeypatch.delattr(shared_prefix_attention, "scaled_dot_product_attention")
    kept: dict[int, int] = {}  # bytes by place

    def noted(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with decisions_for(GPU):
        with torch.autograd.graph.saved_tensors_hooks(noted, lambda tensor: tensor):
            out, _ = attention(None, *tensors, None, layout=pack.layout, pack_index=pack.index, **rules)
        assert_same(with_gradients(out, tensors), expected)
    scores_bytes = 4 * 4 * 160 * 160  # of the longest prefix alone
    assert sum(kept.values()) < scores_bytes / 2


def test_values_smaller_than_keys_are_computed_in_blocks_too():
    pack = pack_of(GROUPS)
    query, key, value = tensors_of(pack)
    tensors = [query, key, value[..., :4].detach().requires_grad_()]
    expected = found_by(pack, tensors)
    with decisions_for(GPU):
        assert_same(found_by(pack, tensors), expected)


def test_a_gpu_holds_more_logits_at_a_time_and_gives_the_same():
    random = torch.Generator().manual_seed(1)
    hidden, head = torch.randn(600, 8, generator=random), torch.randn(11, 8, generator=random)
    target = torch.arange(600) % 11
    found, num_products = [], []
    for kind in ("cpu", "cuda"):
        with decisions_for(kind), Watch() as watch:
            found.append(target_logprobs(hidden, head, target, 0.7))
        num_products.append(watch.counts["mm"])
        assert watch.counts["mm"] == -(-600 // chunk_tokens(kind))
    assert num_products == [5, 2]
    torch.testing.assert_close(*found)
