"""vLLM worker extension: installs an adapter and reads its active slots back.

vLLM 0.32 loads adapters from folders only. Mixed into its worker, this builds one from a safetensors blob in memory, or
has vLLM load a folder, and digests what the engine will really multiply with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vllm.lora.lora_model import LoRAModel
from vllm.lora.peft_helper import PEFTHelper
from vllm.lora.request import LoRARequest

from floe.actors.engine.adapter_blob import Pair, digest_of, module_names, tensors_of
from floe.actors.engine.vllm_lone_row import compute_lone_rows_in_pairs


class AdapterSlots:
    """Methods that run inside the vLLM worker, called through `collective_rpc`."""

    def install_adapter(
        self, adapter_id: int, blob: memoryview, rank: int, alpha: int, target_modules: list[str]
    ) -> dict[str, Any]:
        """Load, activate and read back one adapter.

        Returns `num_modules` (pairs of A and B in the active slots that the blob names) and `installed` (their digest).
        Raises ValueError when a tensor of the blob binds to no module of the engine.
        """
        lora_manager = self.model_runner.lora_manager  # type: ignore[attr-defined]
        slots = lora_manager._adapter_manager
        tensors = tensors_of(blob)
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
        self._make_room(slots)
        slots.add_adapter(adapter)
        slots.activate_adapter(adapter_id)
        return self._note_installed(slots, adapter_id, module_names(tensors))

    def install_adapter_folder(self, adapter_id: int, folder: str, names: list[str]) -> dict[str, Any]:
        """Install the adapter in a PEFT folder that holds the modules `names`, through vLLM's own loading."""
        lora_manager = self.model_runner.lora_manager  # type: ignore[attr-defined]
        slots = lora_manager._adapter_manager
        self._make_room(slots)
        if not lora_manager.add_adapter(LoRARequest(f"adapter-{adapter_id}", adapter_id, folder)):
            raise ValueError(f"adapter id {adapter_id} is already installed: ids are never reused")
        return self._note_installed(slots, adapter_id, set(names))

    def _make_room(self, slots: Any) -> None:
        """Remove the oldest adapter; vLLM would remove the least recently used, which may still be needed."""
        installed_ids = self._installed_ids()
        while len(installed_ids) >= slots.capacity:
            oldest = installed_ids.pop(0)
            slots.remove_adapter(oldest)
            del self._names_by_id()[oldest]

    def _note_installed(self, slots: Any, adapter_id: int, names: set[str]) -> dict[str, Any]:
        self._installed_ids().append(adapter_id)
        self._names_by_id()[adapter_id] = names
        installed = dict(_active_pairs(slots, adapter_id, names))
        unbound = sorted(names - set(installed))
        if unbound:
            raise ValueError(
                f"{len(unbound)} exported modules bind to nothing in the engine, the first is '{unbound[0]}'"
            )
        return {"num_modules": len(installed), "installed": digest_of(installed)}

    def _installed_ids(self) -> list[int]:
        """Return the ids in the order of installation; they are kept on the worker, which this class is mixed into."""
        if not hasattr(self, "floe_installed_ids"):
            self.floe_installed_ids: list[int] = []
        return self.floe_installed_ids

    def read_adapters(self) -> dict[int, dict[str, Any]]:
        """Return, by id, `num_modules` and `installed` of each installed adapter as its active slots hold it now."""
        slots = self.model_runner.lora_manager._adapter_manager  # type: ignore[attr-defined]
        found = {}
        for adapter_id in self._installed_ids():
            pairs = dict(_active_pairs(slots, adapter_id, self._names_by_id()[adapter_id]))
            found[adapter_id] = {"num_modules": len(pairs), "installed": digest_of(pairs)}
        return found

    def _names_by_id(self) -> dict[int, set[str]]:
        """Return the names of the modules in each installed adapter's blob."""
        if not hasattr(self, "floe_names_by_id"):
            self.floe_names_by_id: dict[int, set[str]] = {}
        return self.floe_names_by_id

    def compute_lone_rows_in_pairs(self) -> int:
        return compute_lone_rows_in_pairs(self.model_runner.model)  # type: ignore[attr-defined]

    def list_adapter_ids(self) -> list[int]:
        return sorted(self.model_runner.lora_manager.list_adapters())  # type: ignore[attr-defined]


def _active_pairs(slots: Any, adapter_id: int, wanted: set[str]) -> Iterator[tuple[str, Pair]]:
    """Yield the active slot of every wanted module, packed projections taken apart, padding ranks cut off."""
    slot = slots.lora_index_to_id.index(adapter_id)
    rank = slots.get_adapter(adapter_id).rank
    for name, module in slots.modules.items():
        parent, _, leaf = name.rpartition(".")
        for index, part in enumerate(slots.packed_modules_mapping.get(leaf, [leaf])):
            if f"{parent}.{part}" in wanted:
                lora_a = module.lora_a_stacked[index][slot, 0, :rank]
                lora_b = module.lora_b_stacked[index][slot, 0, :, :rank]
                yield f"{parent}.{part}", (lora_a, lora_b)
