"""The optimiser's state as one safetensors file per rank: float32 master, moments, counts. Nothing is unpickled.

DeepSpeed's own loader unpickles with `weights_only=False`, so it is not used. The file's metadata hold, as JSON, what
must be the same in the learner that reads it, and a digest of the tensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from xxhash import xxh3_128

from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json

ABOUT = "floe"  # the metadata's only key
MASTER, MOMENTS = "master", ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True, kw_only=True)
class StateLayout:
    """Properties that a state and the learner that reads it must share, because the partitions depend on them."""

    rank: int
    num_ranks: int
    zero_stage: int
    parameters: tuple[tuple[str, tuple[int, ...], str], ...]  # name, shape and type of each trained one, in order

    def path_in(self, folder: Path) -> Path:
        return folder / f"optimizer-rank-{self.rank}-of-{self.num_ranks}.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerState:
    """Content of a file, checked against the layout."""

    tensors: dict[str, torch.Tensor]  # `<number>.master`, `<number>.exp_avg`, `<number>.exp_avg_sq`, on the CPU
    num_updates: int  # of Adam; 0 while it has no moments yet
    num_steps_done: int  # of the learner, as the position in the learning rate's schedule


def layout_of(module: torch.nn.Module, rank: int, num_ranks: int, zero_stage: int) -> StateLayout:
    parameters = tuple(
        (name, tuple(parameter.shape), str(parameter.dtype).removeprefix("torch."))
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    )
    return StateLayout(rank=rank, num_ranks=num_ranks, zero_stage=zero_stage, parameters=parameters)


def write_state(folder: Path, layout: StateLayout, optimizer: torch.optim.Optimizer, num_steps_done: int) -> None:
    """Write one file in `folder`; `optimizer` is this rank's Adam, with the float32 partition. Raises OSError."""
    tensors: dict[str, torch.Tensor] = {}
    num_updates = 0
    for number, master in enumerate(_masters(optimizer)):
        tensors[f"{number}.{MASTER}"] = _saved(master)
        moments = optimizer.state.get(master)
        if moments:
            num_updates = int(moments["step"])
            tensors |= {f"{number}.{name}": _saved(moments[name]) for name in MOMENTS}
    about = _shape_of_run(layout) | {"num_updates": num_updates, "num_steps_done": num_steps_done}
    about["digest"] = _digest(about, tensors)
    folder.mkdir(parents=True, exist_ok=True)
    # Serialised in memory first: the library's own file writing reports a full disk as an error of the format.
    layout.path_in(folder).write_bytes(save(tensors, metadata={ABOUT: json.dumps(about)}))


def read_state(folder: Path, layout: StateLayout, optimizer: torch.optim.Optimizer) -> OptimizerState:
    """Return the state that `write_state` left for this layout; set nothing. Raises UserError when it does not fit."""
    path = layout.path_in(folder)
    if not path.is_file():
        others = ", ".join(sorted(other.name for other in folder.glob("optimizer-rank-*"))) or "none of any"
        raise UserError(
            f"'{folder}' has no optimiser state of rank {layout.rank} of {layout.num_ranks} ({others} is there): "
            "continue with the learner.num_ranks that wrote it, or from another checkpoint."
        )
    about, tensors = _read(path)
    if about.pop("digest", None) != _digest(about, tensors):
        raise _damaged(path, "it does not hold what was written")
    _check_layout(path, layout, about)
    expected = {f"{number}.{MASTER}": master.shape for number, master in enumerate(_masters(optimizer))}
    if about["num_updates"] > 0:
        expected |= {f"{n}.{name}": m.shape for n, m in enumerate(_masters(optimizer)) for name in MOMENTS}
    found = {name: tensor.shape for name, tensor in tensors.items() if tensor.dtype == torch.float32}
    odd = next((name for name in expected | found if expected.get(name) != found.get(name)), None)
    if odd is not None:
        raise _foreign(path, f"its tensor {odd} is {_shape(found.get(odd))}, here {_shape(expected.get(odd))}")
    return OptimizerState(tensors=tensors, num_updates=about["num_updates"], num_steps_done=about["num_steps_done"])


def apply_state(optimizer: torch.optim.Optimizer, state: OptimizerState) -> None:
    """Set the float32 partition, the moments and Adam's count; the learner's parameters follow from the partition."""
    with torch.no_grad():
        for number, master in enumerate(_masters(optimizer)):
            master.copy_(state.tensors[f"{number}.{MASTER}"])
    moments: dict[int, dict[str, Any]] = {}
    if state.num_updates > 0:
        moments = {
            number: {"step": state.num_updates} | {name: state.tensors[f"{number}.{name}"] for name in MOMENTS}
            for number, _ in enumerate(_masters(optimizer))
        }
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})


def _masters(optimizer: torch.optim.Optimizer) -> Iterable[torch.Tensor]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


def _saved(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous()


def _digest(about: dict[str, Any], tensors: dict[str, torch.Tensor]) -> str:
    state = xxh3_128(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        state.update(f"{name} {tensors[name].dtype}".encode())
        state.update(tensors[name].view(torch.uint8).numpy().data)
    return state.hexdigest()


def _shape_of_run(layout: StateLayout) -> dict[str, Any]:
    return {
        "rank": layout.rank,
        "num_ranks": layout.num_ranks,
        "zero_stage": layout.zero_stage,
        "parameters": [[name, list(shape), dtype] for name, shape, dtype in layout.parameters],
    }


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = parsed_json((file.metadata() or {})[ABOUT])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    except SafetensorError as fault:
        raise _damaged(path, str(fault)) from fault
    except (KeyError, ValueError) as fault:
        raise _damaged(path, "it does not say what it holds") from fault
    counts = [about.get(name) for name in ("num_updates", "num_steps_done")] if isinstance(about, dict) else [None]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise _damaged(path, "it does not say what it holds")
    return about, tensors


def _check_layout(path: Path, layout: StateLayout, about: dict[str, Any]) -> None:
    expected = _shape_of_run(layout)
    for key in ("rank", "num_ranks", "zero_stage"):
        if about.get(key) != expected[key]:
            raise _foreign(path, f"{key} is {about.get(key)}, here {expected[key]}")
    found = about.get("parameters")
    if found != expected["parameters"]:
        pairs = zip(found if isinstance(found, list) else [], expected["parameters"], strict=False)
        first = next((f"it has {theirs}, here {ours}" for theirs, ours in pairs if theirs != ours), None)
        raise _foreign(path, first or "it has another number of trained parameters")


def _shape(shape: torch.Size | None) -> str:
    return "missing" if shape is None else str(list(shape))


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"The optimiser state '{path}' is damaged ({reason}): continue from another checkpoint.")


def _foreign(path: Path, difference: str) -> UserError:
    return UserError(
        f"The optimiser state '{path}' is another learner's ({difference}): continue with the configuration that "
        "wrote it."
    )
