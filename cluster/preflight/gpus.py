"""Checks of NVIDIA GPUs and their driver, read through NVML. The reading has not run on a GPU."""

from __future__ import annotations

from floe.cluster.machine.gpus import BFLOAT16_SINCE, GpuReading
from floe.cluster.preflight.finding import Finding, Level, ok
from floe.configs.schema import RunConfig


def gpus(config: RunConfig, found: GpuReading, joins_cluster: bool) -> Finding:
    """Check the GPUs. On a joined cluster they may be another machine's, so a fault here is a warning there."""
    asks = config.rollout.num_gpus > 0 or config.learner.num_gpus > 0
    shown = ", ".join(f"{one.name} ({one.total_bytes / 2**30:.0f} GiB)" for one in found.gpus)
    if not asks:
        return ok(f"{shown}, which the run does not use" if found.gpus else "the run asks for no GPU")
    what, remedy = _fault(config, found)
    if what:
        level = Level.WARNING if joins_cluster else Level.FAULT
        return Finding(level=level, what=f"{what}{', on this machine' if joins_cluster else ''}", remedy=remedy)
    return ok(f"{shown}, driver {found.driver}, CUDA {found.torch_cuda}")


def _fault(config: RunConfig, found: GpuReading) -> tuple[str, str]:
    """Return what keeps the run from the GPUs that it asks for, and the remedy; both empty for nothing."""
    on_cpu = "set rollout.num_gpus=0 learner.num_gpus=0"
    if found.torch_cuda is not None:  # vLLM for CUDA has no CPU mode
        on_cpu = f"'pip install -e .[cpu]' in a new virtual environment and {on_cpu}"
    if not found.gpus and not found.torch_sees_gpus:
        why = f" ({found.fault})" if found.fault else ""
        return f"the run asks for a GPU and none is found{why}", f"install NVIDIA's driver, or {on_cpu}"
    if found.torch_cuda is None:
        return (
            "the run asks for a GPU and PyTorch is a build for the CPU",
            f"'pip install -e .[cuda]' in a new virtual environment, or {on_cpu}",
        )
    if not found.torch_sees_gpus:
        return (
            f"PyTorch, built for CUDA {found.torch_cuda}, can't use the GPU with driver {found.driver}, which runs "
            f"CUDA {found.driver_cuda} at most",
            "install a newer driver, or see whether CUDA_VISIBLE_DEVICES hides the GPU",
        )
    for one in found.gpus:
        asked = [name for name in ("model", "rollout") if getattr(config, name).dtype == "bfloat16"]
        if asked and one.capability < BFLOAT16_SINCE:
            remedy = f"set {' '.join(f'{name}.dtype=float32' for name in asked)}, or take an Ampere or later"
            return f"{one.name} does not compute in bfloat16", remedy
        share_bytes = config.rollout.gpu_memory_share * one.usable_bytes
        if config.rollout.num_gpus > 0 and one.free_bytes < share_bytes:
            return (
                f"{one.name} has {one.free_bytes / 2**30:.1f} GiB free, the engine takes {share_bytes / 2**30:.1f}",
                "end what else uses it, leave it out of CUDA_VISIBLE_DEVICES, or lower rollout.gpu_memory_share",
            )
    return "", ""
