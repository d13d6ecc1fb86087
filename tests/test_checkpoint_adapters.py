"""Live adapter versions in a checkpoint: the same blob and manifest come back, or one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from floe.cluster.checkpoints.adapter_versions import read_versions, save_versions
from floe.cluster.messages import AdapterManifest
from floe.configs.errors import UserError
from floe.configs.schema import LoraSection
from floe.learner.adapter.export import export_blob


class Store:
    """A store like `placement.put_blob`: the reference travels in a list."""

    def __init__(self) -> None:
        self.blobs: list[np.ndarray] = []

    def put(self, blob: np.ndarray) -> list[int]:
        self.blobs.append(blob.copy())
        return [len(self.blobs) - 1]

    def fetch(self, ref: list[int]) -> np.ndarray:
        blob = self.blobs[ref[0]]
        blob.setflags(write=False)  # as Ray gives it
        return blob


def exported(store: Store, version: int) -> AdapterManifest:
    torch.manual_seed(version)
    stem = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {f"{stem}.lora_A.weight": torch.randn(8, 4), f"{stem}.lora_B.weight": torch.randn(6, 8)}
    lora = LoraSection(rank=8, alpha=16, target_modules=("q_proj",))
    return export_blob(tensors, lora, version, store.put, "bfloat16")


def saved(folder: Path) -> list[AdapterManifest]:
    store = Store()
    manifests = [exported(store, version) for version in (10, 11)]
    save_versions(folder, manifests, store.fetch)
    return manifests


def test_versions_come_back_as_they_were_exported(tmp_path):
    manifests = saved(tmp_path)
    assert sorted(path.name for path in (tmp_path / "versions").iterdir()) == [
        f"v0000{version}.{kind}" for version in (10, 11) for kind in ("json", "safetensors")
    ]
    store = Store()
    found = read_versions(tmp_path, [11, 10], store.put)
    assert [replace(one, blob_ref=None) for one in found] == [replace(one, blob_ref=None) for one in manifests[::-1]]
    again = Store()
    for version, manifest in zip((11, 10), found, strict=True):
        expected = exported(again, version)
        assert np.array_equal(store.fetch(manifest.blob_ref), again.fetch(expected.blob_ref))


def test_a_blob_that_is_not_the_manifests_is_not_saved(tmp_path):
    store = Store()
    manifest = exported(store, 10)
    store.blobs[0][-1] ^= 1
    with pytest.raises(ValueError, match="version 10"):
        save_versions(tmp_path, [manifest], store.fetch)


def change_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "damage",
    [
        lambda weights, about: weights.unlink(),
        lambda weights, about: about.unlink(),
        lambda weights, about: weights.write_bytes(weights.read_bytes()[:-1]),
        lambda weights, about: weights.write_bytes(weights.read_bytes()[:-1] + b"\x07"),
        lambda weights, about: about.write_text("{"),
        lambda weights, about: change_json(about, rank="8"),
        lambda weights, about: change_json(about, version=10),
        lambda weights, about: change_json(about, digest="0" * 32),
    ],
    ids=["no blob", "no json", "cut blob", "changed blob", "no JSON", "wrong type", "other version", "other digest"],
)
def test_what_was_not_saved_so_is_refused(tmp_path, damage):
    saved(tmp_path)
    damage(tmp_path / "versions" / "v000011.safetensors", tmp_path / "versions" / "v000011.json")
    store = Store()
    with pytest.raises(UserError, match="no usable adapter of version 11"):
        read_versions(tmp_path, [11], store.put)
    assert not store.blobs
