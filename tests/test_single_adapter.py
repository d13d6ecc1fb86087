"""The CPU path for batches of one adapter: the stock path's outputs, whatever the batch, and still needed."""

from __future__ import annotations

import logging

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytestmark = [pytest.mark.engine, pytest.mark.cpu_engine]

RANK, NUM_IN, WIDTHS, NUM_TOKENS = 8, 96, (64, 32, 32), 24
ADAPTER_IDS = [11, 12]


@pytest.fixture(scope="module")
def single():
    from floe.actors.engine import vllm_single_adapter

    assert vllm_single_adapter.install_single_adapter_path()
    return vllm_single_adapter


@pytest.fixture(scope="module")
def layer():
    """Make a packed projection: x [tokens, in]; of two adapters A [slots, 1, rank, in] and B [slots, 1, out, rank]."""
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(torch.bfloat16)

    lora_a = tuple(normal(2, 1, RANK, NUM_IN) / 10 for _ in WIDTHS)
    lora_b = tuple(normal(2, 1, width, RANK) / 3 for width in WIDTHS)
    return normal(NUM_TOKENS, NUM_IN), lora_a, lora_b


def wrapper_for(token_ids: list[int]):
    """Return a wrapper that has been told which adapter each token uses (0: none)."""
    from vllm.lora.layers import LoRAMapping
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    wrapper = PunicaWrapperCPU(max_num_batched_tokens=256, max_batches=256, device="cpu", max_loras=2)
    wrapper.update_metadata(LoRAMapping(tuple(token_ids), tuple(token_ids)), ADAPTER_IDS, 2, 1000)
    return wrapper


def added(add, wrapper, layer) -> torch.Tensor:
    x, lora_a, lora_b = layer
    y = torch.ones(len(x), sum(WIDTHS), dtype=torch.bfloat16)
    add(wrapper, y, x, lora_a, lora_b, 1.0, WIDTHS)
    return y


class LargestTensor(TorchDispatchMode):
    """Records the most values that any one operation wrote."""

    num_values = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.num_values = max(self.num_values, result.numel())
        return result


@pytest.mark.parametrize("adapter_id", ADAPTER_IDS)
def test_one_adapter_adds_what_the_stock_path_adds(single, layer, adapter_id):
    wrapper = wrapper_for([adapter_id] * NUM_TOKENS)
    stock = added(single._stock_add_lora_linear, wrapper, layer)
    torch.testing.assert_close(added(single._add_lora_linear, wrapper, layer), stock, rtol=2e-2, atol=2e-2)
    other = wrapper_for([next(i for i in ADAPTER_IDS if i != adapter_id)] * NUM_TOKENS)
    assert (added(single._add_lora_linear, other, layer) - stock).abs().max() > 0.5


@pytest.mark.parametrize("ids", [[11, 12] * (NUM_TOKENS // 2), [11, 0] * (NUM_TOKENS // 2)])
def test_a_batch_of_several_versions_takes_the_stock_path(single, layer, ids):
    wrapper = wrapper_for(ids)
    stock = added(single._stock_add_lora_linear, wrapper, layer)
    assert torch.equal(added(single._add_lora_linear, wrapper, layer), stock)
    alone = added(single._add_lora_linear, wrapper_for([11] * NUM_TOKENS), layer)
    torch.testing.assert_close(stock[::2], alone[::2], rtol=2e-2, atol=2e-2)
    assert not torch.allclose(stock[1::2], alone[1::2], rtol=2e-2, atol=2e-2)


def test_every_batch_is_looked_at_anew(single, layer):
    from vllm.lora.layers import LoRAMapping

    wrapper = wrapper_for([11] * NUM_TOKENS)
    for ids in ([12] * NUM_TOKENS, [0] * NUM_TOKENS, [11] * NUM_TOKENS):
        wrapper.update_metadata(LoRAMapping(tuple(ids), tuple(ids)), ADAPTER_IDS, 2, 1000)
        fresh = added(single._add_lora_linear, wrapper_for(ids), layer)
        assert torch.equal(added(single._add_lora_linear, wrapper, layer), fresh)


def test_the_base_model_gets_nothing_added(single, layer):
    assert torch.equal(
        added(single._add_lora_linear, wrapper_for([0] * NUM_TOKENS), layer),
        torch.ones(NUM_TOKENS, sum(WIDTHS), dtype=torch.bfloat16),
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_token_gets_the_same_bits_in_any_company(single, layer, dtype):
    """Fails with PyTorch's own product in float32: MKL rounds a row by how many others there are."""
    x, lora_a, lora_b = layer
    x = x.repeat(8, 1).to(dtype)
    layer_of = (tuple(one.to(dtype) for one in lora_a), tuple(one.to(dtype) for one in lora_b))

    def added_to(rows: torch.Tensor) -> torch.Tensor:
        y = torch.ones(len(rows), sum(WIDTHS), dtype=dtype)
        single._add_lora_linear(wrapper_for([11] * len(rows)), y, rows, *layer_of, 1.0, WIDTHS)
        return y

    whole = added_to(x)
    for num_rows in (1, 2, 3, 5, 7, 8, 15, 16, 31, 33, 65, 130):
        assert torch.equal(added_to(x[:num_rows]), whole[:num_rows]), f"{num_rows} rows"


def test_upstream_still_copies_the_adapter_for_every_token(single, layer):
    """Fails when `actors/engine/vllm_single_adapter.py` is no longer needed: then take it out."""
    _, lora_a, _ = layer
    wrapper = wrapper_for([11] * NUM_TOKENS)
    num_copied = NUM_TOKENS * lora_a[0][0].numel()
    with LargestTensor() as largest:
        added(single._stock_add_lora_linear, wrapper, layer)
    assert largest.num_values >= num_copied
    with LargestTensor() as largest:
        added(single._add_lora_linear, wrapper, layer)
    assert largest.num_values < num_copied


def test_an_unknown_version_keeps_the_stock_path_and_says_so(single, monkeypatch, caplog):
    monkeypatch.setattr("vllm.__version__", "99.0.0+cpu")
    with caplog.at_level(logging.WARNING, logger="floe.actors.engine.vllm_single_adapter"):
        assert not single.install_single_adapter_path()
    assert "99.0.0" in caplog.text and "stock LoRA path" in caplog.text
