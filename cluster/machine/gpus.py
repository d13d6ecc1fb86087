"""NVIDIA GPUs of this machine, as NVML and PyTorch report them; no CUDA context is made. It has not run on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from floe.cluster.environment import visible_devices

BFLOAT16_SINCE = (8, 0)  # compute capability: Ampere
RESERVED_SHARE = 0.024  # used where NVML does not report it: of an L4's 22.49 GiB CUDA shows 21.96


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
        """The card's memory as CUDA shows it."""
        return self.total_bytes - self.reserved_bytes


class HasUuid(Protocol):
    @property
    def uuid(self) -> str: ...


AnyGpu = TypeVar("AnyGpu", bound=HasUuid)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """Report of NVML and PyTorch; `fault` is NVML's own error where it could not be asked."""

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    driver_cuda: str = ""  # newest that the driver runs
    torch_cuda: str | None = None  # that PyTorch is built for; None: for the CPU
    torch_sees_gpus: bool = False
    fault: str = ""


def read_gpus() -> GpuReading:
    """Read the GPUs of this machine, without those that CUDA_VISIBLE_DEVICES hides."""
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
                name=text_of(pynvml.nvmlDeviceGetName(handle)),
                total_bytes=total_bytes,
                free_bytes=free_bytes,
                capability=(major, minor),
                uuid=text_of(pynvml.nvmlDeviceGetUUID(handle)),
                reserved_bytes=reserved_bytes,
            )
            gpus.append(one)
        newest = pynvml.nvmlSystemGetCudaDriverVersion()  # 12040 for 12.4
        return GpuReading(
            gpus=visible(gpus, visible_devices()),
            driver=text_of(pynvml.nvmlSystemGetDriverVersion()),
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
    """Return the GPUs that CUDA_VISIBLE_DEVICES names by number or by the beginning of a UUID, in its order.

    As in CUDA, everything after a name of no GPU is ignored. Numbers are NVML's. They are also CUDA's with
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


def text_of(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
