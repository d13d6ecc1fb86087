"""The weights that go to the host and come back."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from floe.configs.errors import UserError
from floe.learner.optimizer import frozen_weights
from floe.learner.optimizer.frozen_weights import FrozenWeights, buffer_bytes, pin

# Of Qwen2.5-Coder: hidden, MLP, layers, heads, key heads, vocabulary, tied embeddings.
SIZES = {"3B": (2048, 11008, 36, 16, 2, 151_936, True), "7B": (3584, 18_944, 28, 28, 4, 152_064, False)}


def model() -> torch.nn.Sequential:
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)).to(torch.bfloat16)
    net[0].requires_grad_(False)
    return net


def test_what_is_frozen_comes_back_to_the_bit_and_what_is_trained_never_leaves():
    net = model()
    before = [one.detach().clone() for one in net.parameters()]
    trained = [one.data_ptr() for one in net[1].parameters()]
    weights = FrozenWeights(net)
    for _ in range(2):
        weights.to_host()
        assert [one.data_ptr() for one in net[1].parameters()] == trained
        weights.to_device()
        assert all(torch.equal(one, other) for one, other in zip(net.parameters(), before, strict=True))


def test_training_goes_on_between_two_absences():
    net, undisturbed = model(), model()
    weights = FrozenWeights(net)
    inputs = torch.ones(3, 4, dtype=torch.bfloat16)
    for one in (net, undisturbed):
        optimizer = torch.optim.SGD([p for p in one.parameters() if p.requires_grad], lr=0.1)
        for _ in range(3):
            if one is net:
                weights.to_host()
                weights.to_device()
            optimizer.zero_grad()
            one(inputs).sum().backward()
            optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(net.parameters(), undisturbed.parameters(), strict=True))


def num_bytes(tensors) -> int:
    return sum(one.numel() * one.element_size() for one in tensors)


@pytest.mark.parametrize("size", SIZES)
def test_the_host_holds_the_weights_of_a_large_model_and_no_more(size):
    hidden, mlp, layers, heads, key_heads, vocabulary, tied = SIZES[size]
    config = AutoConfig.for_model(
        "qwen2",
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        weights = list(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).parameters())
    assert num_bytes(weights) <= buffer_bytes(weights) <= 1.05 * num_bytes(weights)


def test_one_buffer_is_pinned_where_it_lies(monkeypatch):
    """PyTorch's allocator of pinned memory takes a power of two for each block."""
    pinned: list[int] = []

    def rounded(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(1 << (num_bytes([tensor]) - 1).bit_length())
        return tensor

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", rounded)
    monkeypatch.setattr(frozen_weights, "pin", lambda buffer: pinned.append(num_bytes([buffer])), raising=False)
    net = torch.nn.Sequential(*(torch.nn.Linear(70, 70) for _ in range(5))).requires_grad_(False)
    before = [one.clone() for one in net.parameters()]
    weights = FrozenWeights(net)
    weights.to_host()
    assert num_bytes(before) <= sum(pinned) <= 1.05 * num_bytes(before)
    assert all(torch.equal(one, other) for one, other in zip(net.parameters(), before, strict=True))


def test_parameters_that_share_their_memory_go_once_and_share_it_again():
    weight = torch.randn(8, 8)
    net = torch.nn.ParameterList([torch.nn.Parameter(weight, requires_grad=False) for _ in range(2)])
    weights = FrozenWeights(net)
    for move in (weights.to_host, weights.to_device):
        move()
        one, other = net
        assert one.data_ptr() == other.data_ptr() and torch.equal(one, weight)


def test_memory_that_the_host_does_not_lock_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "cudart", lambda: SimpleNamespace(cudaHostRegister=lambda *_: 2))
    with pytest.raises(UserError, match=r"lock 0\.0 GiB of the host's memory .* error 2.*engine_sleeps"):
        pin(torch.empty(16, dtype=torch.uint8))
