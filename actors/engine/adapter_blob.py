"""Reads an adapter's bytes as tensors, and digests what an engine holds of it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from xxhash import xxh3_128

from floe.configs.files.foreign_files import parsed_json

SHARED_MEMORY = Path("/dev/shm")
PEFT_PREFIX = "base_model.model."
_TYPES = {"BF16": torch.bfloat16, "F32": torch.float32, "F16": torch.float16}
Pair = tuple[torch.Tensor, torch.Tensor]  # A [rank, in] and scaled B [out, rank]


def tensors_of(blob: memoryview) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors blob without a copy: views of memory that nobody may write.

    The format: the header's length in 8 bytes, a JSON header of types, shapes and offsets, the data.
    """
    data = np.frombuffer(blob, dtype=np.uint8)
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = parsed_json(data[8:start].tobytes())
    header.pop("__metadata__", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch's warning that the memory is read-only
        whole = torch.from_numpy(data[start:])
    tensors = {}
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        tensors[name] = whole[first:end].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def module_names(tensors: Iterable[str]) -> set[str]:
    """Return the engine's names of the modules that the tensors of these PEFT names belong to."""
    return {name.removeprefix(PEFT_PREFIX).rsplit(".", 2)[0] for name in tensors}


@contextmanager
def adapter_folder(blob: memoryview, rank: int, alpha: int, target_modules: Sequence[str]) -> Iterator[Path]:
    """Make a PEFT folder of the adapter, in shared memory where the system has it, and remove it afterwards."""
    with TemporaryDirectory(prefix="floe-adapter-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as name:
        folder = Path(name)
        (folder / "adapter_model.safetensors").write_bytes(blob)
        settings = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": list(target_modules)}
        (folder / "adapter_config.json").write_text(json.dumps(settings | {"bias": "none"}))
        yield folder


def digest_of(pairs: Mapping[str, Pair]) -> str:
    """Return the digest over the modules by name; the learner's `slots_digest` has to be the same."""
    state = xxh3_128()
    for name in sorted(pairs):
        state.update(name.encode())
        for tensor in pairs[name]:
            state.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return state.hexdigest()
