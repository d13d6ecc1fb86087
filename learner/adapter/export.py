"""An adapter as one safetensors blob for the broadcast, and the digest of what an engine must hold of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from xxhash import xxh3_128, xxh3_128_hexdigest

from floe.cluster.messages import AdapterManifest

if TYPE_CHECKING:
    from floe.configs.sections.learning_sections import LoraSection

PEFT_PREFIX = "base_model.model."
LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"
ALIGNMENT_BYTES = 8  # of the header; its length comes first, in a number of as many bytes
_TYPE_NAMES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.float16: "F16"}

Tensors = dict[str, torch.Tensor]  # under plain PEFT names


@dataclass(frozen=True, slots=True)
class _Module:
    """One module's part of the export's memory: its tensors in the blob, and what an engine's slot must hold."""

    name: bytes
    lora_a: torch.Tensor  # [rank, in], in the blob
    lora_b: torch.Tensor  # [out, rank], in the blob
    slot_a: torch.Tensor  # in the engine's type; the blob's own memory where the types are the same
    slot_b: torch.Tensor
    slot_bytes: tuple[memoryview, ...]  # of slot_a and slot_b


class AdapterExport:
    """Exports adapters of one shape, each into the memory of the one before.

    The first touch of fresh pages costs several times the copy itself, and so does what Python does for each tensor.
    """

    def __init__(self, lora: LoraSection, engine_dtype: str, like: Tensors) -> None:
        """`engine_dtype`, a name of torch's, is what the engine computes in; `like` are tensors of the shape."""
        self._lora = lora
        self._names, header = _layout(like)
        self._blob = np.empty(len(header) + sum(tensor.nbytes for tensor in like.values()), dtype=np.uint8)
        self._blob[: len(header)] = np.frombuffer(header, dtype=np.uint8)
        self._views, end = [], len(header)
        for name in self._names:
            start, end = end, end + like[name].nbytes
            view = torch.from_numpy(self._blob[start:end]).view(like[name].dtype)
            self._views.append(view.view(like[name].shape))
        self._modules = _modules(dict(zip(self._names, self._views, strict=True)), getattr(torch, engine_dtype))

    def __call__(self, tensors: Tensors, version: int, put_blob: Callable[[np.ndarray], Any]) -> AdapterManifest:
        """Put the adapter into the store once, and describe it.

        `put_blob` stores a copy of a uint8 array where the rollout actors can reach it and returns the reference.
        """
        self._write(tensors)
        return AdapterManifest(
            version=version,
            rank=self._lora.rank,
            alpha=self._lora.alpha,
            target_modules=self._lora.target_modules,
            num_modules=len(self._modules),
            num_bytes=self._blob.nbytes,
            digest=xxh3_128_hexdigest(self._blob.data),
            slots_digest=self._slots_digest(),
            blob_ref=put_blob(self._blob),
        )

    def blob(self, tensors: Tensors) -> bytes:
        """Return the same bytes without the store."""
        self._write(tensors)
        return self._blob.tobytes()

    def _write(self, tensors: Tensors) -> None:
        if len(tensors) != len(self._names):
            raise ValueError(f"an adapter of {len(self._names)} tensors is exported here, not one of {len(tensors)}")
        for name, view in zip(self._names, self._views, strict=True):
            view.copy_(tensors[name])

    def _slots_digest(self) -> str:
        """Return the digest of all modules' A [rank, in] and scaled B [out, rank], as an engine's slots must hold
        them.
        """
        scaling = self._lora.alpha / self._lora.rank
        state = xxh3_128()
        for module in self._modules:
            if module.slot_a is not module.lora_a:
                module.slot_a.copy_(module.lora_a)
            torch.mul(module.lora_b.to(module.slot_b.dtype), scaling, out=module.slot_b)
            state.update(module.name)
            for part in module.slot_bytes:
                state.update(part)
        return state.hexdigest()


def rounded(tensors: Tensors, dtype: str | None) -> Tensors:
    """Return the tensors in `dtype`, a name of torch's; the same ones without it."""
    return tensors if dtype is None else {name: one.to(getattr(torch, dtype)) for name, one in tensors.items()}


def to_blob(tensors: Tensors) -> bytes:
    """Return one safetensors blob."""
    from floe.configs.sections.learning_sections import LoraSection  # takes pydantic, which the rest here does without

    return AdapterExport(LoraSection(), "float32", tensors).blob(tensors)


def export_blob(
    tensors: Tensors, lora: LoraSection, version: int, put_blob: Callable[[np.ndarray], Any], engine_dtype: str
) -> AdapterManifest:
    """Export a single adapter."""
    return AdapterExport(lora, engine_dtype, tensors)(tensors, version, put_blob)


def _layout(tensors: Tensors) -> tuple[list[str], bytes]:
    """Return the tensors' order in the blob, and its beginning: the header's length and the header."""
    # Wider types first and then by name, as the library orders them, so that every tensor is aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    ends = np.cumsum([tensors[name].nbytes for name in names]).tolist()
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for name, end in zip(names, ends, strict=True):
        tensor = tensors[name]
        offsets = [end - tensor.nbytes, end]
        entries[name] = {"dtype": _TYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % ALIGNMENT_BYTES)
    return names, len(header).to_bytes(ALIGNMENT_BYTES, "little") + header


def _modules(views: Tensors, dtype: torch.dtype) -> list[_Module]:
    """Return the modules by name.

    All share one module's worth of memory for what is not in the blob, so that it stays in the cache.
    """
    memory = [torch.empty(max((view.numel() for view in views.values()), default=0), dtype=dtype) for _ in range(2)]
    modules = []
    for name in sorted(views):
        if name.endswith(LORA_A):
            stem = name.removesuffix(LORA_A)
            lora_a, lora_b = views[name], views[stem + LORA_B]
            slot_a, slot_b = (
                space[: view.numel()].view(view.shape) for space, view in zip(memory, (lora_a, lora_b), strict=True)
            )
            if lora_a.dtype == dtype:
                slot_a = lora_a
            slot_bytes = tuple(slot.view(torch.uint8).numpy().data for slot in (slot_a, slot_b))
            module = stem.removeprefix(PEFT_PREFIX).encode()
            modules.append(_Module(module, lora_a, lora_b, slot_a, slot_b, slot_bytes))
    return modules
