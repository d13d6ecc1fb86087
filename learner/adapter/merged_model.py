"""Writes a copy of a base model's folder with an adapter merged into its weights, one safetensors file at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json
from floe.learner.adapter.merge import LoraPair, is_plain_float, merged_weight

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
CONFIG = "config.json"
BESIDE_WEIGHTS = (
    "*.json",
    "*.txt",
    "*.jinja",
    "*.model",
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
    "USE_POLICY*",
    "additional_chat_templates/*.jinja",
)


def write_merged(model_dir: Path, pairs: Mapping[str, LoraPair], folder: Path) -> None:
    """Fill `folder` with the merged model in bfloat16, and with the base's tokenizer, chat template and licence.

    Needs memory for one of the base's files at a time. Raises UserError for a base that the adapter does not fit.
    """
    config = _plain_config(model_dir)
    files = weight_files(model_dir)
    _check_fits(model_dir, files, pairs)
    file_of: dict[str, str] = {}
    num_bytes = 0
    for file in files:
        tensors = _merged_tensors(model_dir / file, pairs)
        num_bytes += sum(tensor.nbytes for tensor in tensors.values())
        file_of |= dict.fromkeys(tensors, file)
        _save(tensors, folder / file)
        del tensors
    if (model_dir / INDEX).is_file():
        index = {"metadata": {"total_size": num_bytes}, "weight_map": dict(sorted(file_of.items()))}
        _write_json(folder / INDEX, index)
    dtype = {name: "bfloat16" for name in ("dtype", "torch_dtype") if name in config} or {"dtype": "bfloat16"}
    _write_json(folder / CONFIG, config | dtype)
    for path in _beside_weights(model_dir):
        (folder / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(model_dir / path, folder / path)


def weight_files(model_dir: Path) -> tuple[str, ...]:
    """Return the names of the base's safetensors files. Raises UserError when there are none, or one is missing."""
    if (model_dir / INDEX).is_file():
        files = _files_of_index(model_dir / INDEX)
    elif (model_dir / SINGLE).is_file():
        files = (SINGLE,)
    else:
        raise UserError(f"{model_dir} has neither {SINGLE} nor {INDEX}: give a model with safetensors weights.")
    for file in files:
        if not (model_dir / file).is_file():
            raise UserError(f"{model_dir} has no {file}, which its {INDEX} names: fetch the model again.")
    return files


def _files_of_index(path: Path) -> tuple[str, ...]:
    index = _read_json(path)
    weight_map = index.get("weight_map")
    files = sorted(set(map(str, weight_map.values()))) if isinstance(weight_map, dict) else []
    if not files or any(Path(file).name != file or not file.endswith(".safetensors") for file in files):
        raise UserError(f"{path} does not name safetensors files of its folder: fetch the model again.")
    return tuple(files)


def _plain_config(model_dir: Path) -> dict[str, Any]:
    config = _read_json(model_dir / CONFIG)
    if config.get("quantization_config"):
        raise UserError(
            f"The model in {model_dir} is quantized, which an adapter can't be merged into: export --adapter."
        )
    return config


def _check_fits(model_dir: Path, files: Iterable[str], pairs: Mapping[str, LoraPair]) -> None:
    names: set[str] = set()
    for file in files:
        with _opened(model_dir / file) as weights:
            names |= set(weights.keys())
    if missing := sorted(pairs.keys() - names):
        raise UserError(
            f"The model in {model_dir} has no {missing[0]}, which the adapter adapts ({len(missing)} of {len(pairs)} "
            "are missing): set model.path to the model that the adapter was trained on."
        )


def _merged_tensors(path: Path, pairs: Mapping[str, LoraPair]) -> dict[str, torch.Tensor]:
    """Return the file's tensors by name; those that stay as they are still lie in the file."""
    tensors = {}
    with _opened(path) as weights:
        for name in weights.keys():  # noqa: SIM118 - it is no mapping
            weight = weights.get_tensor(name)
            try:
                if name in pairs:
                    weight = merged_weight(weight, pairs[name])
                elif is_plain_float(weight):
                    weight = weight.bfloat16()
            except ValueError as fault:
                raise UserError(
                    f"The adapter can't be merged into {name} of {path} ({fault}): "
                    "set model.path to the model that the adapter was trained on."
                ) from fault
            tensors[name] = weight
    return tensors


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as fault:
        raise UserError(f"Can't write {path.name} ({fault}): is the disk full? Choose another folder.") from fault


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as fault:
        raise UserError(f"Can't read {path} ({fault}): fetch the model again.") from fault


def _beside_weights(model_dir: Path) -> list[Path]:
    """Return the names, relative to the folder, of the files to copy with the weights."""
    found = {path for pattern in BESIDE_WEIGHTS for path in model_dir.glob(pattern) if path.is_file()}
    kept = (path for path in found if path.name != CONFIG and not path.name.endswith(".index.json"))
    return sorted(path.relative_to(model_dir) for path in kept)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = parsed_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise UserError(f"Can't read {path} ({fault}): model.path must name the folder of a model.") from fault
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: model.path must name the folder of a model.")
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
