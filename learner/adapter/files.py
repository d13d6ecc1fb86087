"""Adapters as ordinary PEFT folders (safetensors and JSON only)."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json

if TYPE_CHECKING:
    from floe.configs.sections.learning_sections import LoraSection

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
# Values of PEFT's options in plain LoRA, where that is not false, empty or unset.
PLAIN_OPTIONS = {"peft_type": "LORA", "bias": "none", "task_type": "CAUSAL_LM"}
# Ways to initialise the matrices that leave the base's own weights as they were.
PLAIN_INITIALS = (True, False, "gaussian", "eva", "orthogonal")
# Options that do not change what the adapter computes; shapes and modules are checked in the tensors.
FREE_OPTIONS = {
    "auto_mapping",
    "base_model_name_or_path",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "runtime_config",
    "target_modules",
}


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
    """Return the tensors of a PEFT folder.

    Raises UserError when it is not a plain LoRA adapter of the configured shape.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"'{folder}' is not an adapter folder: it has no {name}.")
    try:
        config = parsed_json((folder / CONFIG).read_text())
        tensors = load_file(folder / WEIGHTS)
    except ValueError as fault:
        raise UserError(f"'{folder / CONFIG}' is not JSON ({fault}): give a folder written by PEFT or floe.") from fault
    except SafetensorError as fault:
        raise UserError(
            f"'{folder / WEIGHTS}' is not a safetensors file ({fault}): give a folder written by PEFT or floe."
        ) from fault
    if not isinstance(config, dict):
        raise UserError(f"'{folder / CONFIG}' holds no JSON object: give a folder written by PEFT or floe.")
    if odd := _more_than_plain(config):
        raise UserError(
            f"The adapter in '{folder}' sets {', '.join(odd)}, but floe goes on from plain LoRA only: "
            f"{_plain_way(config, odd)}."
        )
    if config.get("r") != lora.rank or config.get("lora_alpha") != lora.alpha:
        raise UserError(
            f"The adapter in '{folder}' has rank {config.get('r')} and alpha {config.get('lora_alpha')}, "
            f"the configuration has {lora.rank} and {lora.alpha}: set lora.rank and lora.alpha to the adapter's."
        )
    if broken := sorted(name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()):
        raise UserError(
            f"The adapter in '{folder}' has {len(broken)} tensors with values that are no finite numbers, the first "
            f"'{broken[0]}': give the adapter of an earlier step."
        )
    modules = {name.split(".")[-3:][0] for name in tensors}  # ...self_attn.q_proj.lora_A.weight
    if modules != set(lora.target_modules):
        raise UserError(
            f"The adapter in '{folder}' adapts {sorted(modules)}, the configuration {sorted(lora.target_modules)}: "
            "set lora.target_modules to the adapter's."
        )
    return tensors


def named_base(folder: Path) -> str | None:
    """Return the base model that an adapter folder names; None where it can't be read or names none."""
    try:
        base = parsed_json((folder / CONFIG).read_text()).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return None
    return base if isinstance(base, str) and base else None


def _more_than_plain(config: dict[str, Any]) -> list[str]:
    """Return the options that make an adapter more than plain LoRA; an unknown option counts where it is set."""
    odd = [
        name
        for name, value in sorted(config.items())
        if value and value != PLAIN_OPTIONS.get(name) and name not in FREE_OPTIONS
    ]
    initial = config.get("init_lora_weights", True)
    return odd if initial is None or initial in PLAIN_INITIALS else [*odd, f"init_lora_weights {initial}"]


def _plain_way(config: dict[str, Any], odd: list[str]) -> str:
    """Return what makes a plain adapter, or a plain model, of one that is more."""
    merged = "merge it into its base with PEFT's merge_and_unload, and give the merged folder as model.path"
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if odd != ["use_rslora"] or not (isinstance(rank, int) and isinstance(alpha, int | float) and rank > 0):
        return merged
    plain = alpha * math.sqrt(rank)  # rank-stabilised LoRA scales by alpha / sqrt(rank) (arXiv 2312.03732)
    if not plain.is_integer():
        return f"its scaling alpha / sqrt(rank) is that of no whole lora.alpha, so {merged}"
    return (
        f"its scaling is {alpha:g} / sqrt({rank}), so set use_rslora to false and lora_alpha to {plain:g} in its "
        f"{CONFIG}, which computes the same, and lora.alpha={plain:g}"
    )


def _peft_config(lora: LoraSection, base_model: Path) -> dict[str, Any]:
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
