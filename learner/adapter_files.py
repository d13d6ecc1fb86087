"""Adapters as bytes for the broadcast and as ordinary PEFT folders (safetensors and JSON only)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from xxhash import xxh3_128, xxh3_128_hexdigest

from cluster.messages import AdapterManifest
from configs.errors import UserError
from configs.schema import LoraSection

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PEFT_PREFIX = "base_model.model."
ALIGNMENT_BYTES = 8  # of the header in the format, whose length comes first in as many bytes
_TYPE_NAMES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.float16: "F16"}
LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"
# Options of PEFT that make an adapter more than plain LoRA, each with its plain value.
PLAIN_OPTIONS = {
    "use_dora": False,
    "use_rslora": False,
    "bias": "none",
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
}


def to_blob(tensors: dict[str, torch.Tensor]) -> bytes:
    """One safetensors blob under plain PEFT names."""
    return _blob_array(tensors).tobytes()


def _blob_array(tensors: dict[str, torch.Tensor]) -> np.ndarray:
    """[num_bytes] uint8 in the format of safetensors, written with one copy of each tensor.

    The library's own `save` copies a large adapter several times, which was most of an export.
    """
    # Wider types first and by name, as the library orders them: so every tensor is aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    ends = np.cumsum([tensors[name].nbytes for name in names]).tolist()
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for name, end in zip(names, ends, strict=True):
        tensor = tensors[name]
        offsets = [end - tensor.nbytes, end]
        entries[name] = {"dtype": _TYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % ALIGNMENT_BYTES)
    start = ALIGNMENT_BYTES + len(header)
    array = np.empty(start + (ends[-1] if ends else 0), dtype=np.uint8)
    array[:ALIGNMENT_BYTES] = np.frombuffer(len(header).to_bytes(ALIGNMENT_BYTES, "little"), dtype=np.uint8)
    array[ALIGNMENT_BYTES:start] = np.frombuffer(header, dtype=np.uint8)
    data = torch.from_numpy(array[start:])
    for name, end in zip(names, ends, strict=True):
        tensor = tensors[name]
        data[end - tensor.nbytes : end].view(tensor.dtype).copy_(tensor.reshape(-1))
    return array


def export_blob(
    tensors: dict[str, torch.Tensor],
    lora: LoraSection,
    version: int,
    put_blob: Callable[[np.ndarray], Any],
    engine_dtype: str,
) -> AdapterManifest:
    """Put the adapter, as the engine will get it, into the store once, and describe it.

    `put_blob` stores a uint8 array where the rollout actors can reach it and returns the reference. The engine computes
    in `engine_dtype`, a name of torch's.
    """
    blob = _blob_array(tensors)
    return AdapterManifest(
        version=version,
        rank=lora.rank,
        alpha=lora.alpha,
        target_modules=lora.target_modules,
        num_modules=len(tensors) // 2,
        num_bytes=blob.nbytes,
        digest=xxh3_128_hexdigest(blob.data),
        slots_digest=slots_digest(tensors, lora.alpha / lora.rank, getattr(torch, engine_dtype)),
        blob_ref=put_blob(blob),
    )


def slots_digest(tensors: dict[str, torch.Tensor], scaling: float, dtype: torch.dtype) -> str:
    """Digest of A [rank, in] and scaled B [out, rank] of every module, by name: what an engine's slots must hold."""
    state = xxh3_128()
    for name in sorted(tensors):
        if name.endswith(LORA_A):
            stem = name.removesuffix(LORA_A)
            state.update(stem.removeprefix(PEFT_PREFIX).encode())
            for tensor in (tensors[name].to(dtype), tensors[f"{stem}{LORA_B}"].to(dtype) * scaling):
                state.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return state.hexdigest()


def write_adapter(folder: Path, blob: bytes, lora: LoraSection, base_model: Path) -> None:
    """Write a folder that `peft.PeftModel.from_pretrained` loads; an earlier one is replaced whole."""
    beside = folder.with_name(f"{folder.name}.writing-{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    (beside / WEIGHTS).write_bytes(blob)
    (beside / CONFIG).write_text(json.dumps(_peft_config(lora, base_model), indent=2))
    if folder.exists():
        old = folder.with_name(f"{folder.name}.old-{os.getpid()}")
        folder.rename(old)
        beside.rename(folder)
        shutil.rmtree(old)
    else:
        beside.rename(folder)


def read_adapter(folder: Path, lora: LoraSection) -> dict[str, torch.Tensor]:
    """Tensors of a PEFT folder. Raises UserError when it is not a plain LoRA adapter of the configured shape."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"'{folder}' is not an adapter folder: it has no {name}.")
    try:
        config = json.loads((folder / CONFIG).read_text())
        tensors = load_file(folder / WEIGHTS)
    except ValueError as fault:
        raise UserError(f"'{folder / CONFIG}' is not JSON ({fault}): give a folder written by PEFT or floe.") from fault
    except SafetensorError as fault:
        raise UserError(
            f"'{folder / WEIGHTS}' is not a safetensors file ({fault}): give a folder written by PEFT or floe."
        ) from fault
    odd = [name for name, plain in PLAIN_OPTIONS.items() if (config.get(name) or plain) != plain]
    if odd:
        raise UserError(f"The adapter in '{folder}' sets {', '.join(odd)}, but floe goes on from plain LoRA only.")
    if config.get("r") != lora.rank or config.get("lora_alpha") != lora.alpha:
        raise UserError(
            f"The adapter in '{folder}' has rank {config.get('r')} and alpha {config.get('lora_alpha')}, "
            f"the configuration has {lora.rank} and {lora.alpha}: set lora.rank and lora.alpha to the adapter's."
        )
    modules = {name.split(".")[-3:][0] for name in tensors}  # ...self_attn.q_proj.lora_A.weight
    if modules != set(lora.target_modules):
        raise UserError(
            f"The adapter in '{folder}' adapts {sorted(modules)}, the configuration {sorted(lora.target_modules)}: "
            "set lora.target_modules to the adapter's."
        )
    return tensors


def _peft_config(lora: LoraSection, base_model: Path) -> dict:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base_model),
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": list(lora.target_modules),
        "bias": "none",
        "inference_mode": True,
    }
