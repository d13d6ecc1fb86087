"""The host never waits for the GPU within the layers: counted by what is dispatched, and with a GPU by PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from floe.cluster.bench.families.tiny_families import WINDOW, tiny_config, write_tiny_model
from floe.configs.schema import LoraSection, ModelSection
from floe.learner.device_kind import CPU, GPU, decisions_for
from floe.learner.policy.policy import build_policy, packed_logprobs, reference_logprobs
from floe.learner.policy.shared_prefix_attention import shared_prefix_attention as attention
from tests.device_waits import DeviceWait, Watch, backward, watched
from tests.whole_packs import META, meta_policy, pack_of

GROUPS = [(WINDOW + 9, (5, 3, 9)), (4, (2,)), (11, (6, 6)), (1, (1, 2, 3))]
MADE_ANEW = {"arange", "triu", "tril", "ones", "full", "lift_fresh", "_to_copy"}


@pytest.fixture(scope="module", params=["llama", "mistral", "gemma2", "gemma3_text"])
def model_dir(request, tmp_path_factory):
    """A plain family, and those with windows, caps, and windows in some layers."""
    folder = tmp_path_factory.mktemp(request.param)
    write_tiny_model(folder, tiny_config(request.param, 160))
    return folder


def policy_of(model_dir, checkpointing: bool):
    return build_policy(
        model_dir,
        ModelSection(dtype="float32"),
        LoraSection(),
        dropout=0.0,
        seed=1,
        initial=None,
        with_reference=False,
        gradient_checkpointing=checkpointing,
    ).train()


def layers_of(policy) -> torch.nn.ModuleList:
    return policy.get_base_model().base_model.layers


def assert_never_waits(policy, pack) -> None:
    """A pass of the KL term's reference, a forward and a backward pass."""
    layers = layers_of(policy)
    with watched(layers) as watch:
        reference = reference_logprobs(policy, pack, 1.0)
        objective = (packed_logprobs(policy, pack, 1.0) - reference).sum()
        backward(watch, layers, objective)
    assert watch.counts["mm"] > 10


@pytest.mark.parametrize("kind", [CPU, GPU])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_layer_waits_whatever_its_rules(model_dir, checkpointing, kind):
    with decisions_for(kind):
        assert_never_waits(policy_of(model_dir, checkpointing), pack_of(GROUPS))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_layer_waits_where_a_pack_is_computed_whole(checkpointing):
    assert_never_waits(meta_policy(checkpointing=checkpointing), pack_of(GROUPS).to(META))


RULES = {
    "plain": {},
    "window": {"sliding_window": 6},
    "cap": {"softcap": 2.0},
    "sinks": {"s_aux": torch.tensor([0.5, -1.0, 2.0, 0.0])},
}


@pytest.mark.parametrize("kind", [CPU, GPU])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_a_second_layer_makes_no_mask_and_no_index(rules, kind):
    pack = pack_of(GROUPS)
    tensors = [torch.randn(1, heads, pack.input_ids.shape[1], 8).requires_grad_() for heads in (4, 2, 2)]

    def layer() -> None:
        out, _ = attention(None, *tensors, None, layout=pack.layout, pack_index=pack.index, **rules)
        out.sum().backward()

    with decisions_for(kind):
        layer()
        with Watch() as watch:
            watch.is_watching = True
            layer()
    assert watch.counts["softmax"] + watch.counts["_softmax"] > 0
    assert not MADE_ANEW & set(watch.counts)


@contextmanager
def planted(policy, what) -> Iterator[None]:
    handle = layers_of(policy)[0].mlp.register_forward_hook(lambda module, given, out: what(out))
    try:
        yield
    finally:
        handle.remove()


PLANTED = {
    "item": lambda out: out * (2.0 if out[0, 0, 0].item() else 1.0),
    "mask": lambda out: out[:, torch.ones(out.shape[1], dtype=torch.bool)],
    "numbers of Python": lambda out: out * torch.tensor([1.0]),
}


@pytest.mark.parametrize("what", PLANTED.values(), ids=PLANTED)
def test_a_planted_wait_is_found(tmp_path, what):
    write_tiny_model(tmp_path, tiny_config("llama", 160))
    policy = policy_of(tmp_path, checkpointing=False)
    with planted(policy, what), pytest.raises(DeviceWait):
        assert_never_waits(policy, pack_of(GROUPS))


def test_a_wait_that_is_planted_in_the_backward_pass_is_found(tmp_path):
    write_tiny_model(tmp_path, tiny_config("llama", 160))
    policy = policy_of(tmp_path, checkpointing=False)

    def spoil(out: torch.Tensor) -> torch.Tensor:
        if out.requires_grad:
            out.register_hook(lambda gradient: gradient * (2.0 if gradient.sum().item() else 1.0))
        return out

    with planted(policy, spoil), pytest.raises(DeviceWait):
        assert_never_waits(policy, pack_of(GROUPS))


def test_a_way_to_the_host_is_found():
    with Watch() as watch:
        watch.is_watching = True
        with pytest.raises(DeviceWait):
            torch.ones(2).to(META)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="asks a GPU itself")
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_a_gpu_is_not_waited_for(rules):
    device = torch.device("cuda")
    pack = pack_of(GROUPS).to(device)
    on_device = {name: value.to(device) if torch.is_tensor(value) else value for name, value in rules.items()}
    shape = pack.input_ids.shape[1], 64
    tensors = [torch.randn(1, heads, *shape, device=device, dtype=torch.bfloat16) for heads in (4, 2, 2)]
    for one in tensors:
        one.requires_grad_()

    def layer() -> None:
        out, _ = attention(None, *tensors, None, layout=pack.layout, pack_index=pack.index, **on_device)
        out.sum().backward()

    layer()
    torch.cuda.set_sync_debug_mode("error")
    try:
        layer()
    finally:
        torch.cuda.set_sync_debug_mode("default")
