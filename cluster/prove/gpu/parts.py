"""The twelve parts in their order, with the packages that each needs; standard library only."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from floe.configs.errors import UserError

MODEL_PACKAGES = ("torch", "numpy", "transformers")
LEARNER_PACKAGES = (*MODEL_PACKAGES, "peft", "safetensors", "xxhash")
ALL_PACKAGES = (*LEARNER_PACKAGES, "pydantic", "yaml", "rich", "typer", "psutil", "ray", "deepspeed", "vllm")
NVML = ("pynvml",)
DISTRIBUTIONS = {"pynvml": "nvidia-ml-py", "yaml": "pyyaml"}  # packages whose module has another name
OF_A_GPU = "a full pack and a full KV cache of the 3B are a GPU's"
OF_THE_TRAINING = "the 24 GB configuration trains the 3B on a GPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    number: int
    name: str
    module: str  # the module whose `prove` it is
    function: str
    needs: tuple[str, ...] = ALL_PACKAGES
    needs_on_gpu: tuple[str, ...] = ()
    why_not_on_cpu: str = ""

    @property
    def heading(self) -> str:
        return f"{self.number:>2} {self.name}"

    def missing(self, device: str) -> tuple[str, ...]:
        """Return the packages that it needs and that are not installed."""
        needed = self.needs + (self.needs_on_gpu if device == "cuda" else ())
        return tuple(DISTRIBUTIONS.get(name, name) for name in needed if not is_installed(name))


HOME = "floe.cluster.prove.gpu"
PARTS = (
    Part(number=1, name="machine", module=f"{HOME}.card_part", function="prove", needs=("torch",)),
    Part(number=2, name="attention", module=f"{HOME}.attention", function="prove", needs=MODEL_PACKAGES),
    Part(number=3, name="learner alone", module=f"{HOME}.learner_alone", function="prove", needs=LEARNER_PACKAGES),
    Part(number=4, name="engine alone", module=f"{HOME}.engine_alone", function="prove_engine"),
    Part(number=5, name="prompt sharing", module=f"{HOME}.engine_alone", function="prove_sharing"),
    Part(number=6, name="sleep and waking", module=f"{HOME}.sleeping", function="prove", needs_on_gpu=NVML),
    Part(number=7, name="start race", module=f"{HOME}.start_race", function="prove"),
    Part(number=8, name="placements", module=f"{HOME}.runs", function="prove_placements"),
    Part(
        number=9, name="3B, memory by phase", module=f"{HOME}.full_shape", function="prove_step",
        needs_on_gpu=NVML, why_not_on_cpu=OF_A_GPU,
    ),
    Part(
        number=10, name="3B, warm start", module=f"{HOME}.full_shape", function="prove_warm_start",
        needs_on_gpu=NVML, why_not_on_cpu=OF_A_GPU,
    ),
    Part(
        number=11, name="3B, three steps", module=f"{HOME}.runs", function="prove_training",
        needs_on_gpu=NVML, why_not_on_cpu=OF_THE_TRAINING,
    ),
    Part(number=12, name="two ranks", module=f"{HOME}.two_ranks", function="prove"),
)  # fmt: skip


def is_installed(name: str) -> bool:
    """Return whether a package, named as a module or as a distribution, can be imported."""
    modules = {distribution: module for module, distribution in DISTRIBUTIONS.items()}
    return importlib.util.find_spec(modules.get(name, name)) is not None


def chosen_parts(text: str) -> tuple[Part, ...]:
    """Return the parts of `2,3` or `2 3` in their own order; all for an empty text. Raises UserError."""
    names = text.replace(",", " ").split()
    known = {str(part.number): part for part in PARTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            f"--parts has '{unknown[0]}', which is not a part: give numbers from 1 to {len(PARTS)}, as in 2,3."
        )
    return tuple(part for part in PARTS if not names or str(part.number) in names)


def by_number(number: int, parts: Iterable[Part] = PARTS) -> Part:
    return next(part for part in parts if part.number == number)


def prover_of(part: Part) -> Callable[..., Any]:
    """Import the part's code, in the process that runs it."""
    prover: Callable[..., Any] = getattr(importlib.import_module(part.module), part.function)
    return prover
