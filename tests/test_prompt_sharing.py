"""Prompt sharing: who computes, who waits, which blocks are copied (for the tokens see test_adapter_broadcast.py)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytestmark = pytest.mark.engine

BLOCK = 4
NUM_BLOCKS = 6
LAYOUTS = ["LBHNC", "LBNHC", "LHBNC", "BLHNC", "BLNHC", "BHLNC"]


class Tables:
    """The block tables of vLLM's KV cache manager."""

    block_pool = None

    def __init__(self) -> None:
        self.blocks: dict[str, list[int]] = {}

    def get_block_ids(self, request_id: str) -> tuple[list[int]]:
        return (self.blocks[request_id],)


@pytest.fixture
def tables():
    return Tables()


@pytest.fixture
def sharing(tables):
    from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole

    from floe.actors.engine.vllm_prompt_sharing import PromptSharing

    config = SimpleNamespace(cache_config=SimpleNamespace(block_size=BLOCK), kv_transfer_config=SimpleNamespace())
    made = PromptSharing(config, KVConnectorRole.SCHEDULER, SimpleNamespace(num_blocks=NUM_BLOCKS))
    made.bind_kv_cache_manager(tables)
    PromptSharing._num_computed.clear()
    return made


def asked(name: str, num_tokens: int = 10, adapter_id: int = 1) -> SimpleNamespace:
    return SimpleNamespace(
        request_id=name,
        prompt_token_ids=list(range(num_tokens)),
        num_prompt_tokens=num_tokens,
        num_computed_tokens=0,
        num_preemptions=0,
        lora_request=SimpleNamespace(lora_int_id=adapter_id),
        is_finished=lambda: False,
    )


def blocks(*ids: int) -> SimpleNamespace:
    return SimpleNamespace(get_block_ids=lambda: [list(ids)])


def step(sharing, **num_scheduled_tokens: int):
    """Return what the worker gets to copy in a step."""
    return sharing.build_connector_meta(SimpleNamespace(num_scheduled_tokens=num_scheduled_tokens))


@pytest.fixture
def lead(sharing, tables):
    def schedule(request, *ids: int) -> None:
        """The request is scheduled, computes its prompt in this step and goes on."""
        assert sharing.get_num_new_matched_tokens(request, 0) == (0, False)
        tables.blocks[request.request_id] = list(ids)
        sharing.update_state_after_alloc(request, blocks(*ids), 0)
        request.num_computed_tokens = request.num_prompt_tokens

    return schedule


def test_others_wait_for_the_first_and_copy_the_block_that_the_cache_lacks(sharing, tables):
    leader, other = asked("a"), asked("b")
    assert sharing.get_num_new_matched_tokens(leader, 0) == (0, False)
    tables.blocks["a"] = [7, 8, 9]
    sharing.update_state_after_alloc(leader, blocks(7, 8, 9), 0)
    assert sharing.get_num_new_matched_tokens(other, 8) == (None, False)
    leader.num_computed_tokens = 10
    assert sharing.get_num_new_matched_tokens(other, 8) == (1, False)
    sharing.update_state_after_alloc(other, blocks(7, 8, 5), 1)
    copies = step(sharing, a=1, b=1)
    assert (copies.sources, copies.targets) == ([9], [5])
    assert step(sharing, a=1, b=1).sources == []


def test_others_wait_for_the_last_step_of_a_prompt_that_takes_several(sharing, tables):
    """vLLM tells of a request's blocks when it is admitted; those of later steps it gets step by step."""
    leader, other = asked("a"), asked("b")
    assert sharing.get_num_new_matched_tokens(leader, 0) == (0, False)
    tables.blocks["a"] = [7]
    sharing.update_state_after_alloc(leader, blocks(7), 0)
    for num_computed, ids in ((4, [7, 8]), (8, [7, 8, 9])):
        assert step(sharing, a=4).sources == []
        leader.num_computed_tokens = num_computed
        assert sharing.get_num_new_matched_tokens(other, num_computed) == (None, False)
        tables.blocks["a"] = ids
    step(sharing, a=2)
    leader.num_computed_tokens = 10
    assert sharing.get_num_new_matched_tokens(other, 4) == (5, False)
    other.num_computed_tokens = 9
    sharing.update_state_after_alloc(other, blocks(7, 3, 4), 5)
    copies = step(sharing, a=1, b=1)
    assert (copies.sources, copies.targets) == ([8, 9], [3, 4])
    assert sharing.take_num_computed(1, tuple(leader.prompt_token_ids)) == 10 + 1


@pytest.mark.parametrize(
    ("num_tokens", "num_cached", "num_given", "copied"),
    [(9, 8, 0, []), (10, 8, 1, [2]), (12, 8, 3, [2]), (13, 12, 0, []), (10, 0, 9, [0, 1, 2]), (3, 0, 2, [0])],
)
def test_all_but_the_last_token_come_from_the_leader(sharing, lead, num_tokens, num_cached, num_given, copied):
    leader, other = asked("a", num_tokens), asked("b", num_tokens)
    lead(leader, 10, 11, 12, 13)
    assert sharing.get_num_new_matched_tokens(other, num_cached) == (num_given, False)
    sharing.update_state_after_alloc(other, blocks(20, 21, 22, 23), num_given)
    copies = step(sharing)
    assert copies.sources == [10 + place for place in copied]
    assert copies.targets == [20 + place for place in copied]


def test_another_adapter_or_prompt_shares_nothing(sharing, lead):
    lead(asked("a"), 1, 2, 3)
    assert sharing.get_num_new_matched_tokens(asked("b", adapter_id=2), 8) == (0, False)
    assert sharing.get_num_new_matched_tokens(asked("c", num_tokens=11), 8) == (0, False)


def test_the_next_one_leads_where_the_leader_has_finished_or_lost_its_blocks(sharing, lead):
    first, second, third = asked("a"), asked("b"), asked("c")
    lead(first, 1, 2, 3)
    first.num_preemptions = 1
    lead(second, 4, 5, 6)
    sharing.request_finished(second, [4, 5, 6])
    assert sharing.get_num_new_matched_tokens(third, 8) == (0, False)


class Moves(TorchDispatchMode):
    """Counts tensors that are moved to another device."""

    num = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.num += func is torch.ops.aten._to_copy.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("num_layers", [1, 8])
def test_a_steps_indices_are_moved_to_the_device_once_for_all_layers(sharing, num_layers):
    from floe.actors.engine.vllm_prompt_sharing import BlockCopies

    sharing.register_kv_caches({str(n): torch.empty(NUM_BLOCKS, 2, device="meta") for n in range(num_layers)})
    sharing.bind_connector_metadata(BlockCopies(sources=[1, 1], targets=[4, 5]))
    with Moves() as moves:
        sharing.start_load_kv(None)
    assert moves.num == 1


def caches_of(layout_name: str, num_layers: int = 3, kernel_block: int = 16) -> dict[str, torch.Tensor]:
    """Return the caches as vLLM allocates them, filled with random numbers."""
    from vllm.v1.kv_cache_interface import (
        FullAttentionSpec,
        KVCacheConfig,
        KVCacheGroupSpec,
        KVCacheTensor,
        compute_layout_strides,
    )
    from vllm.v1.kv_cache_layout import KVCacheLayout
    from vllm.v1.worker.utils import allocate_kv_cache

    layout, names = KVCacheLayout[layout_name], [f"layer{n}" for n in range(num_layers)]
    spec = FullAttentionSpec(block_size=16, num_kv_heads=2, head_size=32, dtype=torch.bfloat16)
    layer_stride, block_stride, *_ = compute_layout_strides(spec, NUM_BLOCKS, num_layers, layout)
    tensor = KVCacheTensor(
        size=spec.page_size_bytes * NUM_BLOCKS * num_layers, layers=names,
        layer_stride=layer_stride, block_stride=block_stride,
    )  # fmt: skip
    config = KVCacheConfig(
        num_blocks=NUM_BLOCKS, kv_cache_tensors=[tensor], kv_cache_groups=[KVCacheGroupSpec(names, spec)]
    )
    caches = allocate_kv_cache(config, torch.device("cpu"), layout, [kernel_block])
    for cache in caches.values():
        cache.copy_(torch.randn(cache.shape))
    return caches


@pytest.mark.parametrize("layout", LAYOUTS)
def test_blocks_are_copied_in_every_layer_of_every_layout(sharing, layout):
    from floe.actors.engine.vllm_prompt_sharing import BlockCopies

    caches = caches_of(layout)
    before = {name: cache.clone() for name, cache in caches.items()}
    sharing.register_kv_caches(caches)
    sharing.bind_connector_metadata(BlockCopies(sources=[2, 3, 3], targets=[5, 1, 0]))
    sharing.start_load_kv(None)
    for name, cache in caches.items():
        for block, source in enumerate([3, 3, 2, 3, 4, 2]):
            assert torch.equal(cache[block], before[name][source]), (name, block)


def test_these_are_all_layouts_that_vllm_has():
    from vllm.v1.kv_cache_layout import KVCacheLayout

    assert [layout.name for layout in KVCacheLayout] == LAYOUTS


def test_kernels_that_split_the_blocks_are_refused(sharing):
    from floe.configs.errors import UserError

    with pytest.raises(UserError, match=r"have 12 blocks in layer0 where vLLM's scheduler has 6 of 4 tokens"):
        sharing.register_kv_caches(caches_of("LBNHC", kernel_block=8))
