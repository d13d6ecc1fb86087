"""Prompt sharing: who computes, who waits, which blocks are copied (for the tokens see test_adapter_broadcast.py)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.engine

BLOCK = 4


@pytest.fixture
def sharing():
    from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole

    from actors.vllm_prompt_sharing import PromptSharing

    config = SimpleNamespace(cache_config=SimpleNamespace(block_size=BLOCK), kv_transfer_config=SimpleNamespace())
    return PromptSharing(config, KVConnectorRole.SCHEDULER, SimpleNamespace())


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


def lead(sharing, request, *ids: int) -> None:
    """The request is scheduled, computes its prompt in this step and goes on."""
    assert sharing.get_num_new_matched_tokens(request, 0) == (0, False)
    sharing.update_state_after_alloc(request, blocks(*ids), 0)
    request.num_computed_tokens = request.num_prompt_tokens


def test_others_wait_for_the_first_and_copy_the_block_that_the_cache_lacks(sharing):
    leader, other = asked("a"), asked("b")
    assert sharing.get_num_new_matched_tokens(leader, 0) == (0, False)
    sharing.update_state_after_alloc(leader, blocks(7, 8, 9), 0)
    assert sharing.get_num_new_matched_tokens(other, 8) == (None, False)
    leader.num_computed_tokens = 10
    assert sharing.get_num_new_matched_tokens(other, 8) == (1, False)
    sharing.update_state_after_alloc(other, blocks(7, 8, 5), 1)
    copies = sharing.build_connector_meta(SimpleNamespace())
    assert (copies.sources, copies.targets) == ([9], [5])
    assert sharing.build_connector_meta(SimpleNamespace()).sources == []


@pytest.mark.parametrize(
    ("num_tokens", "num_cached", "num_given", "copied"),
    [(9, 8, 0, []), (10, 8, 1, [2]), (12, 8, 3, [2]), (13, 12, 0, []), (10, 0, 9, [0, 1, 2]), (3, 0, 2, [0])],
)
def test_all_but_the_last_token_come_from_the_leader(sharing, num_tokens, num_cached, num_given, copied):
    leader, other = asked("a", num_tokens), asked("b", num_tokens)
    lead(sharing, leader, 10, 11, 12, 13)
    assert sharing.get_num_new_matched_tokens(other, num_cached) == (num_given, False)
    sharing.update_state_after_alloc(other, blocks(20, 21, 22, 23), num_given)
    copies = sharing.build_connector_meta(SimpleNamespace())
    assert copies.sources == [10 + place for place in copied]
    assert copies.targets == [20 + place for place in copied]


def test_another_adapter_or_prompt_shares_nothing(sharing):
    lead(sharing, asked("a"), 1, 2, 3)
    assert sharing.get_num_new_matched_tokens(asked("b", adapter_id=2), 8) == (0, False)
    assert sharing.get_num_new_matched_tokens(asked("c", num_tokens=11), 8) == (0, False)


def test_the_next_one_leads_where_the_leader_has_finished_or_lost_its_blocks(sharing):
    first, second, third = asked("a"), asked("b"), asked("c")
    lead(sharing, first, 1, 2, 3)
    first.num_preemptions = 1
    lead(sharing, second, 4, 5, 6)
    sharing.request_finished(second, [4, 5, 6])
    assert sharing.get_num_new_matched_tokens(third, 8) == (0, False)


def test_blocks_are_copied_in_every_layer(sharing):
    layers = {name: torch.arange(6.0).repeat_interleave(2).reshape(6, 2) + 10 * n for n, name in enumerate("xy")}
    before = {name: cache.clone() for name, cache in layers.items()}
    sharing.register_kv_caches(layers)
    from actors.vllm_prompt_sharing import BlockCopies

    sharing.bind_connector_metadata(BlockCopies(sources=[1, 1], targets=[4, 5]))
    sharing.start_load_kv(None)
    for name, cache in layers.items():
        assert torch.equal(cache[:4], before[name][:4])
        assert torch.equal(cache[4], before[name][1]) and torch.equal(cache[5], before[name][1])
