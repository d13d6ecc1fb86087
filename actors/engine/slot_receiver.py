"""Adapter slots without a model: takes adapters as an engine does, to measure their way there."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from xxhash import xxh3_128_hexdigest

from floe.actors.engine.adapter_blob import PEFT_PREFIX, Pair, digest_of, tensors_of
from floe.cluster.messages import AdapterManifest

NUM_SLOTS = 2
A, B = ".lora_A.weight", ".lora_B.weight"


class SlotReceiver:
    """Holds as many slots of each module as an engine has for synchronous training."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], dtype: str) -> None:
        torch.set_num_threads(1)
        self._slots = {
            name: torch.zeros((NUM_SLOTS, *shape), dtype=getattr(torch, dtype)) for name, shape in shapes.items()
        }

    def ping(self) -> bool:
        return True

    def install(self, manifest: AdapterManifest, blob: np.ndarray) -> dict[str, float]:
        """Return CPU seconds for the blob's digest, the slots and their digest. Raises ValueError for a wrong one."""
        started_s = time.process_time()
        if xxh3_128_hexdigest(blob.data) != manifest.digest:
            raise ValueError("the blob that arrived is not the exported one")
        checked_s = time.process_time()
        installed = self._fill(manifest, tensors_of(blob.data))
        filled_s = time.process_time()
        self._prove(manifest, installed)
        return {
            "check_s": checked_s - started_s,
            "install_s": filled_s - checked_s,
            "digest_s": time.process_time() - filled_s,
        }

    def install_from(self, manifest: AdapterManifest, folder: Path) -> None:
        """Install from a PEFT folder instead."""
        self._prove(manifest, self._fill(manifest, load_file(folder / "adapter_model.safetensors")))

    def _fill(self, manifest: AdapterManifest, tensors: dict[str, torch.Tensor]) -> dict[str, Pair]:
        slot = manifest.version % NUM_SLOTS
        scaling = manifest.alpha / manifest.rank
        pairs = {}
        for name in tensors:
            if name.endswith(A):
                stem = name.removesuffix(A)
                lora_a, lora_b = self._slots[name][slot], self._slots[stem + B][slot]
                lora_a.copy_(tensors[name])
                torch.mul(tensors[stem + B], scaling, out=lora_b)
                pairs[stem.removeprefix(PEFT_PREFIX)] = lora_a, lora_b
        return pairs

    @staticmethod
    def _prove(manifest: AdapterManifest, installed: dict[str, Pair]) -> None:
        if digest_of(installed) != manifest.slots_digest:
            raise ValueError("the slots do not hold what the learner exported")
