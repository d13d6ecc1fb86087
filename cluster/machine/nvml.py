"""Reads NVIDIA's cards through NVML: no CUDA context is made, and what the driver counts is read."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from floe.cluster.machine.gpus import text_of, visible


class NvmlFault(Exception):
    """NVML, or a card, can't be read; the text says why and ends without a full stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    uuid: str
    handle: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CardReading:
    """Values of one card at one moment."""

    total_bytes: int
    used_bytes: int  # by all processes, and by the driver
    busy_share: float | None  # of the driver's last period, up to a second; None where the card doesn't tell


class Nvml:
    """NVML, open from its making to `close`. Raises NvmlFault where there is no driver or no package for it."""

    def __init__(self) -> None:
        try:
            import pynvml
        except ImportError as fault:
            raise NvmlFault("the package nvidia-ml-py is missing") from fault
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as fault:
            raise NvmlFault(f"NVML says '{fault}'") from fault

    def cards(self, devices: str | None) -> tuple[Card, ...]:
        """Return the cards that `devices` names as CUDA_VISIBLE_DEVICES does, all for None. Raises NvmlFault."""
        if devices is not None and "MIG-" in devices:
            raise NvmlFault("NVML doesn't tell how busy the parts of a card are (MIG)")
        nvml = self._nvml
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            found = [Card(uuid=text_of(nvml.nvmlDeviceGetUUID(handle)), handle=handle) for handle in handles]
        except nvml.NVMLError as fault:
            raise NvmlFault(f"NVML says '{fault}'") from fault
        return visible(found, devices)

    def read(self, card: Card) -> CardReading:
        """Read the card. Raises NvmlFault where its memory can't be read."""
        try:
            memory = self._nvml.nvmlDeviceGetMemoryInfo(card.handle)
        except self._nvml.NVMLError as fault:
            raise NvmlFault(f"NVML says '{fault}' for the memory of {card.uuid}") from fault
        try:
            busy_share = self._nvml.nvmlDeviceGetUtilizationRates(card.handle).gpu / 100
        except self._nvml.NVMLError:  # some cards and drivers count memory alone
            busy_share = None
        return CardReading(total_bytes=memory.total, used_bytes=memory.used, busy_share=busy_share)

    def close(self) -> None:
        """Close NVML; an error of it has no effect any more."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        self.close()
