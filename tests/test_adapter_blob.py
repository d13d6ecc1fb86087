"""Adapter bytes as tensors without a copy, and the digest that both sides must agree on."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save

from floe.actors.engine.adapter_blob import PEFT_PREFIX, digest_of, tensors_of
from floe.configs.schema import LoraSection
from floe.learner.adapter.export import AdapterExport, export_blob

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


def slots_digest(tensors: dict[str, torch.Tensor]) -> str:
    """Return the learner's digest, for a scaling of 2."""
    return export_blob(tensors, LoraSection(rank=8, alpha=16), 1, lambda blob: None, "bfloat16").slots_digest


def test_slots_that_hold_the_adapter_have_the_learners_digest_and_no_others_have():
    tensors = adapter()
    expected = slots_digest(tensors)
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
    assert digest_of({name: (a[:rank], b[:, :rank]) for name, (a, b) in padded.items()}) == slots_digest(tensors)


def test_float32_weights_are_rounded_as_an_engine_of_bfloat16_rounds_them():
    tensors = adapter(torch.float32)
    rounded = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    assert slots_digest(tensors) == slots_digest(rounded) == digest_of(slots_of(rounded, 2.0))


def test_the_next_export_holds_nothing_of_the_one_before():
    one, other = adapter(), {name: tensor + 1 for name, tensor in adapter().items()}
    export = AdapterExport(LoraSection(rank=8, alpha=16), "bfloat16", one)
    blobs: list[bytes] = []
    manifests = [export(tensors, version, lambda blob: blobs.append(blob.tobytes())) for version, tensors in
                 enumerate((one, other, one))]  # fmt: skip
    assert blobs[0] == blobs[2] == save(one, metadata={"format": "pt"})
    assert blobs[1] == save(other, metadata={"format": "pt"})
    assert manifests[0].digest == manifests[2].digest != manifests[1].digest
    assert manifests[1].slots_digest == digest_of(slots_of(other, 2.0))


def test_an_adapter_of_other_modules_is_not_exported_in_its_place():
    export = AdapterExport(LoraSection(rank=8, alpha=16), "bfloat16", adapter())
    fewer = dict(list(adapter().items())[:2])
    with pytest.raises(ValueError, match="4 tensors"):
        export.blob(fewer)
