"""Checks that the adapter that a run starts from is plain LoRA of the run's shape, for the run's model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from floe.cluster.checkpoints.inputs import model_digest
from floe.cluster.exports.adapter_base import other_base
from floe.cluster.memory_plan.shapes.projections import adapter_sizes
from floe.cluster.preflight.model_files import read_model_config
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json
from floe.configs.model_families import text_part
from floe.configs.schema import RunConfig
from floe.configs.sections.learning_sections import VLLM_LORA_RANKS

if TYPE_CHECKING:
    from floe.learner.adapter.export import Tensors

TENSOR = re.compile(r"\.(\d+)\.(?:\w+\.)*(\w+)\.lora_([AB])\.weight$")  # layer, module, half


def check_initial_adapter(config: RunConfig, folder: Path, model_dir: Path) -> str:
    """Return what the adapter is, in a few words. Raises UserError that says how it differs, and what to set."""
    from floe.learner.adapter.files import CONFIG, read_adapter

    _check_rank(folder / CONFIG)
    tensors = read_adapter(folder, config.lora)
    _check_base(config, folder, model_dir)
    _check_shapes(config, tensors, folder, model_dir)
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    return f"{folder}: rank {config.lora.rank}, alpha {config.lora.alpha}, {' and '.join(types)}"


def _check_rank(path: Path) -> None:
    """Refuse a rank that the configuration can't be given either."""
    try:
        rank = parsed_json(path.read_text()).get("r")
    except (OSError, ValueError, AttributeError):
        return  # `read_adapter` has a sentence for it
    if isinstance(rank, int) and rank not in VLLM_LORA_RANKS:
        raise UserError(
            f"The adapter in '{path.parent}' has rank {rank}, which vLLM has no slot for: give one of a rank of "
            f"{VLLM_LORA_RANKS}, or merge it into its base with PEFT's merge_and_unload, and give the merged folder as "
            "model.path."
        )


def _check_base(config: RunConfig, folder: Path, model_dir: Path) -> None:
    named = other_base(folder, config.model.path, model_dir)
    if named is None or _is_same_model(Path(named), model_dir, config.run.home_dir):
        return
    raise UserError(
        f"The adapter in '{folder}' was made for the base model {named}, and model.path is {config.model.path}: set "
        "model.path to the adapter's base; or, where that is the same model under another name, set "
        f'base_model_name_or_path in its adapter_config.json to "{model_dir.name}".'
    )


def _is_same_model(folder: Path, model_dir: Path, home_dir: Path) -> bool:
    """Return whether a folder that is still there has the model's content."""
    return folder.is_dir() and model_digest(folder, home_dir) == model_digest(model_dir, home_dir)


def _check_shapes(config: RunConfig, tensors: Tensors, folder: Path, model_dir: Path) -> None:
    """Compare the adapter with what the run adapts: every target module of every layer."""
    model = text_part(read_model_config(model_dir))
    sizes, rank = adapter_sizes(model), config.lora.rank
    wanted = {
        (layer, name, half): [rank, sizes[name][0]] if half == "A" else [sizes[name][1], rank]
        for layer in range(model.num_hidden_layers)
        for name in config.lora.target_modules
        for half in "AB"
    }
    places = [TENSOR.search(name) for name in tensors]
    found = {
        (int(place[1]), place[2], place[3]): list(tensor.shape)
        for place, tensor in zip(places, tensors.values(), strict=True)
        if place is not None
    }
    layers = [len({layer for layer, _, _ in one}) for one in (found, wanted)]
    if layers[0] != layers[1]:
        raise _another_model(folder, f"adapts {layers[0]} layers, and the model in {model_dir} has {layers[1]}")
    for layer, name, half in sorted({*wanted} | {*found}):
        shapes = [one.get((layer, name, half), "nothing") for one in (found, wanted)]
        if shapes[0] != shapes[1]:
            what = f"has {shapes[0]} for lora_{half} of {name} in layer {layer}"
            raise _another_model(folder, f"{what}, and the model in {model_dir} needs {shapes[1]}")


def _another_model(folder: Path, difference: str) -> UserError:
    return UserError(
        f"The adapter in '{folder}' {difference}: set model.path to the base that it was made for, or give an adapter "
        "of all layers of this one."
    )
