"""NVML's Python binding as far as the readings of cards use it, and a reading for what shows one."""

from dataclasses import dataclass
from types import SimpleNamespace

from floe.cluster.tracking.gpu_step import GPU_ROLES, CardUse, GpuPhase

GIB = 2**30


class NVMLError(Exception):
    pass


@dataclass
class FakeCard:
    uuid: str
    used_bytes: int = GIB
    busy_percent: int | None = 50  # None: the card doesn't tell
    memory_fault: str = ""
    total_bytes: int = 24 * GIB


class FakeNvml:
    """`sys.modules["pynvml"]` of a machine with these cards. A handle is the card."""

    NVMLError = NVMLError

    def __init__(self, *cards: FakeCard, fault: str = "") -> None:
        self.cards, self.fault, self.num_open = cards, fault, 0

    def nvmlInit(self):
        if self.fault:
            raise NVMLError(self.fault)
        self.num_open += 1

    def nvmlShutdown(self):
        self.num_open -= 1

    def nvmlDeviceGetCount(self):
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.cards[index]

    def nvmlDeviceGetUUID(self, handle):
        return handle.uuid

    def nvmlDeviceGetMemoryInfo(self, handle):
        if handle.memory_fault:
            raise NVMLError(handle.memory_fault)
        return SimpleNamespace(total=handle.total_bytes, used=handle.used_bytes)

    def nvmlDeviceGetUtilizationRates(self, handle):
        if handle.busy_percent is None:
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=handle.busy_percent, memory=0)


def card_use(**changes) -> CardUse:
    """Return the record of a card that both roles have."""
    fields = {
        "card": "GPU-a",
        "roles": tuple(sorted(GPU_ROLES)),
        "phase": GpuPhase.GENERATE,
        "total_bytes": 24 * GIB,
        "peak_bytes": 18 * GIB,
        "busy_shares": (0.5, 1.0),
    }
    return CardUse(**fields | changes)
