"""Checks of NVIDIA GPUs and their driver, read through NVML. The reading has not run on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from cluster.environment import visible_devices
from cluster.preflight.finding import Finding, Level, ok
from configs.schema import RunConfig

BFLOAT16_SINCE = (8, 0)  # compute capability: Ampere
RESERVED_SHARE = 0.014  # where NVML does not say it: of an A10's 22.49 GiB CUDA shows 22.18


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int]
    uuid: str = ""
    reserved_bytes: int = 0  # of the total, by the driver

    @property
    def usable_bytes(self) -> int:
        """What CUDA shows as the card's memory."""
        return self.total_bytes - self.reserved_bytes


class HasUuid(Protocol):
    @property
    def uuid(self) -> str: ...


AnyGpu = TypeVar("AnyGpu", bound=HasUuid)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """What NVML and PyTorch say; `fault` is NVML's own word where it could not be asked."""

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    driver_cuda: str = ""  # newest that the driver runs
    torch_cuda: str | None = None  # that PyTorch is built for; None: for the CPU
    torch_sees_gpus: bool = False
    fault: str = ""


def read_gpus() -> GpuReading:
    """Of this machine, without those that CUDA_VISIBLE_DEVICES hides."""
    import torch

    torch_cuda, sees = torch.version.cuda, torch.cuda.is_available()
    try:
        import pynvml
    except ImportError:
        return GpuReading(torch_cuda=torch_cuda, torch_sees_gpus=sees, fault="the package nvidia-ml-py is missing")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return GpuReading(torch_cuda=torch_cuda, torch_sees_gpus=sees, fault=f"NVML: {error}")
    try:
        gpus = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            total_bytes, reserved_bytes, free_bytes = _memory(pynvml, handle)
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
            one = Gpu(
                name=_text(pynvml.nvmlDeviceGetName(handle)),
                total_bytes=total_bytes,
                free_bytes=free_bytes,
                capability=(major, minor),
                uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
                reserved_bytes=reserved_bytes,
            )
            gpus.append(one)
        newest = pynvml.nvmlSystemGetCudaDriverVersion()  # 12040 for 12.4
        return GpuReading(
            gpus=visible(gpus, visible_devices()),
            driver=_text(pynvml.nvmlSystemGetDriverVersion()),
            driver_cuda=f"{newest // 1000}.{newest % 1000 // 10}",
            torch_cuda=torch_cuda,
            torch_sees_gpus=sees,
        )
    finally:
        pynvml.nvmlShutdown()


def _memory(nvml: Any, handle: Any) -> tuple[int, int, int]:
    """Return the total, what the driver keeps of it, and what is free, in bytes."""
    try:
        found = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError:  # a driver before 510
        found = nvml.nvmlDeviceGetMemoryInfo(handle)
        return found.total, int(RESERVED_SHARE * found.total), found.free
    return found.total, found.reserved, found.free


def visible(found: Sequence[AnyGpu], devices: str | None) -> tuple[AnyGpu, ...]:
    """Those of all that CUDA_VISIBLE_DEVICES names by number or by the beginning of a UUID, in its order.

    As CUDA reads it, what comes after a name of no GPU counts for nothing. Numbers are NVML's, which are CUDA's with
    CUDA_DEVICE_ORDER=PCI_BUS_ID or where all GPUs are alike. Parts of a GPU (MIG) can't be told apart here: with one
    named, all GPUs are returned.
    """
    if devices is None or "MIG-" in devices:
        return tuple(found)
    chosen = []
    for name in (one.strip() for one in devices.split(",")):
        if name.isdecimal():
            matching = list(found[int(name) : int(name) + 1])
        else:
            matching = [one for one in found if name and one.uuid.startswith(name)]
        if len(matching) != 1:
            break
        chosen += matching
    return tuple(chosen)


def gpus(config: RunConfig, found: GpuReading, joins_cluster: bool) -> Finding:
    """On a cluster that is joined the GPUs may be another machine's, so what is wrong here is a warning there."""
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
    """What keeps the run from the GPUs that it asks for, and the remedy; both empty for nothing."""
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


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
