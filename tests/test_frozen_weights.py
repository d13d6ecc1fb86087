"""The weights that go to the host and come back."""

import torch

from learner.frozen_weights import FrozenWeights


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
