"""vLLM worker extension: installs an adapter from bytes and reads its active slots back.

vLLM 0.32 loads adapters from folders only. This mixes two methods into its worker: one builds the adapter from
a safetensors blob in memory, the other digests what the engine will really multiply with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from safetensors.torch import load
from vllm.lora.lora_model import LoRAModel
from vllm.lora.peft_helper import PEFTHelper


class AdapterSlots:
    """Methods that run inside the vLLM worker, called through `collective_rpc`."""

    def install_adapter(self, adapter_id: int, blob: bytes, rank: int, alpha: int, target_modules: list[str]) -> dict:
        """Load, activate and read back one adapter.

        Returns `num_modules` (pairs of A and B in the active slots that the blob names), `installed` and `expected`
        (digests of the active slots and of what must be in them: engine dtype, alpha/rank folded into B).
        Raises ValueError when a tensor of the blob binds to no module of the engine.
        """
        lora_manager = self.model_runner.lora_manager  # type: ignore[attr-defined]
        slots = lora_manager._adapter_manager
        tensors = load(blob)
        helper = PEFTHelper.from_dict(
            {"r": rank, "lora_alpha": alpha, "target_modules": target_modules, "bias": "none", "use_dora": False}
        )
        helper.validate_legal(lora_manager.lora_config)
        # Cloned, because vLLM folds alpha/rank into B in place.
        adapter = LoRAModel.from_lora_tensors(
            adapter_id,
            {name: tensor.clone() for name, tensor in tensors.items()},
            helper,
            device="cpu",
            dtype=lora_manager.lora_config.lora_dtype,
        )
        if adapter_id in slots.list_adapters():
            raise ValueError(f"adapter id {adapter_id} is already installed: ids are never reused")
        installed_ids = self._installed_ids()
        while len(installed_ids) >= slots.capacity:
            # Not the least recently used, which vLLM would choose: that may be one that is still to be used.
            slots.remove_adapter(installed_ids.pop(0))
        slots.add_adapter(adapter)
        slots.activate_adapter(adapter_id)
        installed_ids.append(adapter_id)
        expected = _folded(tensors, alpha / rank, lora_manager.lora_config.lora_dtype)
        installed = dict(_active_pairs(slots, adapter_id, set(expected)))
        unbound = sorted(set(expected) - set(installed))
        if unbound:
            raise ValueError(
                f"{len(unbound)} exported modules bind to nothing in the engine, the first is '{unbound[0]}'"
            )
        return {"num_modules": len(installed), "installed": _digest(installed), "expected": _digest(expected)}

    def _installed_ids(self) -> list[int]:
        """In the order of their installation; kept on the worker, which this class is mixed into."""
        if not hasattr(self, "floe_installed_ids"):
            self.floe_installed_ids: list[int] = []
        return self.floe_installed_ids

    def list_adapter_ids(self) -> list[int]:
        return sorted(self.model_runner.lora_manager.list_adapters())  # type: ignore[attr-defined]


Pair = tuple[torch.Tensor, torch.Tensor]


def _folded(tensors: dict[str, torch.Tensor], scaling: float, dtype: torch.dtype) -> dict[str, Pair]:
    """Blob tensors by module name: A [rank, in] and scaled B [out, rank], as the engine multiplies them."""
    pairs: dict[str, Pair] = {}
    for name in tensors:
        if name.endswith(".lora_A.weight"):
            stem = name.removesuffix(".lora_A.weight")
            lora_b = tensors[f"{stem}.lora_B.weight"].to(dtype) * scaling
            pairs[stem.removeprefix("base_model.model.")] = (tensors[name].to(dtype), lora_b)
    return pairs


def _active_pairs(slots, adapter_id: int, wanted: set[str]) -> Iterator[tuple[str, Pair]]:
    """The active slot of every wanted module, packed projections taken apart, padding ranks cut off."""
    slot = slots.lora_index_to_id.index(adapter_id)
    rank = slots.get_adapter(adapter_id).rank
    for name, module in slots.modules.items():
        parent, _, leaf = name.rpartition(".")
        for index, part in enumerate(slots.packed_modules_mapping.get(leaf, [leaf])):
            if f"{parent}.{part}" in wanted:
                lora_a = module.lora_a_stacked[index][slot, 0, :rank]
                lora_b = module.lora_b_stacked[index][slot, 0, :, :rank]
                yield f"{parent}.{part}", (lora_a, lora_b)


def _digest(pairs: dict[str, Pair]) -> str:
    sha = hashlib.sha256()
    for name in sorted(pairs):
        sha.update(name.encode())
        for tensor in pairs[name]:
            sha.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
