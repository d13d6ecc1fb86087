"""Adapter bytes as tensors without a copy, and the digest that both sides must agree on."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save

from actors.adapter_blob import PEFT_PREFIX, digest_of, tensors_of
from learner.adapter_files import slots_digest

SHAPES = {"layers.0.q_proj": (8, 24, 16), "layers.1.up_proj": (8, 12, 20)}  # rank, inputs, outputs


def adapter(dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for module, (rank, num_in, num_out) in SHAPES.items():
        for name, shape in (("lora_A", (rank, num_in)), ("lora_B", (num_out, rank))):
            tensors[f"{PEFT_PREFIX}{module}.{name}.weight"] = torch.randn(shape, generator=generator).to(dtype)
    return tensors


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_blobs_tensors_are_those_that_were_saved_and_lie_in_the_blob(dtype):
    tensors = adapter(dtype)
    blob = save(tensors, metadata={"format": "pt"})
    found = tensors_of(memoryview(blob))
    assert found.keys() == tensors.keys()
    assert all(found[name].dtype == dtype and torch.equal(found[name], tensor) for name, tensor in tensors.items())
    pointers = sorted(tensor.data_ptr() for tensor in found.values())
    assert pointers[-1] - pointers[0] < len(blob)


def slots_of(tensors: dict[str, torch.Tensor], scaling: float) -> dict:
    stems = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")]
    return {
        stem.removeprefix(PEFT_PREFIX): (tensors[f"{stem}.lora_A.weight"], tensors[f"{stem}.lora_B.weight"] * scaling)
        for stem in stems
    }


def test_slots_that_hold_the_adapter_have_the_learners_digest_and_no_others_have():
    tensors = adapter()
    expected = slots_digest(tensors, 2.0, torch.bfloat16)
    assert digest_of(slots_of(tensors, 2.0)) == expected
    assert digest_of(slots_of(tensors, 1.0)) != expected
    for name in tensors:
        changed = dict(tensors)
        changed[name] = tensors[name].clone()
        changed[name].view(torch.int16)[0, 0] ^= 1
        assert digest_of(slots_of(changed, 2.0)) != expected
    swapped = slots_of(tensors, 2.0)
    first, second = swapped
    swapped[first], swapped[second] = swapped[second], swapped[first]
    assert digest_of(swapped) != expected


def test_a_slice_of_a_wider_slot_is_read_as_the_adapter_it_holds():
    tensors = adapter()
    padded = {
        name: (torch.cat([a, torch.zeros_like(a)]), torch.cat([b, torch.zeros_like(b)], dim=1))
        for name, (a, b) in slots_of(tensors, 2.0).items()
    }
    rank = SHAPES["layers.0.q_proj"][0]
    assert digest_of({name: (a[:rank], b[:, :rank]) for name, (a, b) in padded.items()}) == slots_digest(
        tensors, 2.0, torch.bfloat16
    )
