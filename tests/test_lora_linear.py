"""The joined LoRA products: output and gradients are PEFT's own, whatever the adapter's state."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from floe.learner.policy.lora_linear import join_lora_products

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2}


def layers(dtype, dropout=0.0, bias=False):
    """Return PEFT's own layer, and the same with joined products."""
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(24, 40, bias=bias), torch.nn.Tanh(), torch.nn.Linear(40, 24, bias=bias))
    config = LoraConfig(r=4, lora_alpha=12, lora_dropout=dropout, target_modules=["0", "2"])
    stock = get_peft_model(base, config)
    for name, parameter in stock.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)  # zero as PEFT makes it, which would hide the adapter
    stock.to(dtype)
    joined = copy.deepcopy(stock)
    assert join_lora_products(joined) == 2
    return stock, joined


def outcome(model, x):
    """Return output, and gradients of the input and of what is trained, after a squared loss."""
    x = x.clone().requires_grad_()
    torch.manual_seed(3)
    out = model(x)
    out.float().square().sum().backward()
    trained = {name: one.grad for name, one in model.named_parameters() if one.requires_grad}
    return {"output": out.detach(), "input": x.grad} | trained


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_output_and_gradients_are_pefts(dtype, bias, dropout):
    stock, joined = layers(dtype, dropout, bias)
    x = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected, found = outcome(stock, x), outcome(joined, x)
    assert len(expected) == 2 + 4
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        error = (found[name] - value).float().norm() / value.float().norm()
        assert error < TOLERANCE[dtype], name


def test_base_model_comes_back_where_the_adapter_is_disabled():
    stock, joined = layers(torch.float32)
    x = torch.randn(5, 24)
    with stock.disable_adapter(), joined.disable_adapter():
        assert torch.equal(joined(x), stock(x))


def test_active_adapter_is_the_one_that_computes():
    _, joined = layers(torch.float32)
    x = torch.randn(5, 24)
    first = joined(x)
    joined.add_adapter("second", LoraConfig(r=4, lora_alpha=12, target_modules=["0", "2"]))
    joined.set_adapter("second")
    with joined.disable_adapter():
        base = joined(x)
    assert torch.allclose(joined(x), base, atol=1e-5)  # a fresh adapter changes nothing
    joined.set_adapter("default")
    assert torch.equal(joined(x), first)
    assert not torch.allclose(first, base, atol=1e-2)
