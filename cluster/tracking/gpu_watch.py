"""Watches the cards of one node: a thread reads them about once a second, so that the peak of a phase is seen."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from floe.cluster.machine.nvml import Card, Nvml, NvmlFault
from floe.cluster.tracking.gpu_step import CardUse, GpuPhase

PERIOD_S = 1.0  # NVML's own share of the time busy is over up to a second


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReadings:
    """Node's watch to driver: what was read since the previous request, and why something could not be read."""

    uses: tuple[CardUse, ...]
    faults: tuple[str, ...]


@dataclass(slots=True)
class _Readings:
    """Readings of one card in one phase."""

    total_bytes: int = 0
    peak_bytes: int = 0
    busy_shares: list[float] = field(default_factory=list)


class NodeWatch:
    """Readings of one node's cards, from `watch` on until `close`.

    A card that can't be read is a fault in what `take` returns, never an error.
    """

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._period_s = period_s
        self._phase = GpuPhase.GENERATE
        self._nvml: Nvml | None = None
        self._cards: dict[str, Card] = {}
        self._roles: dict[str, set[str]] = {}  # by the card's UUID
        self._readings: dict[tuple[str, GpuPhase], _Readings] = defaultdict(_Readings)
        self._faults: dict[str, None] = {}  # in order, each once
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_reading, name="gpu-watch", daemon=True)

    def watch(self, places: Mapping[str, Sequence[str | None]]) -> None:
        """Watch the cards of these roles' actors, given as each process's CUDA_VISIBLE_DEVICES."""
        with self._lock:
            self._cards, self._roles = {}, {}
            for role, named in ((role, one) for role, devices in places.items() for one in devices):
                for card in self._named(named):
                    self._cards[card.uuid] = card
                    self._roles.setdefault(card.uuid, set()).add(role)
            if self._cards and not self._thread.is_alive():
                self._thread.start()

    def enter(self, phase: GpuPhase) -> None:
        """Begin a phase; the earlier one is read once more, because its end may be its peak."""
        self.read()
        with self._lock:
            self._phase = phase

    def read(self) -> None:
        """Read every card once, for the current phase."""
        with self._lock:
            if self._nvml is None:
                return
            for uuid, card in list(self._cards.items()):
                try:
                    found = self._nvml.read(card)
                except NvmlFault as fault:
                    self._faults[str(fault)] = None
                    del self._cards[uuid]
                    continue
                kept = self._readings[uuid, self._phase]
                kept.total_bytes = found.total_bytes
                kept.peak_bytes = max(kept.peak_bytes, found.used_bytes)
                kept.busy_shares += [] if found.busy_share is None else [found.busy_share]

    def take(self) -> NodeReadings:
        """Read once more, and return all that was read since the previous call."""
        self.read()
        with self._lock:
            readings, self._readings = self._readings, defaultdict(_Readings)
            faults, self._faults = self._faults, {}
            uses = [self._use(uuid, phase, one) for (uuid, phase), one in readings.items()]
        return NodeReadings(uses=tuple(uses), faults=tuple(faults))

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            if self._nvml is not None:
                self._nvml.close()
            self._nvml, self._cards = None, {}

    def _named(self, devices: str | None) -> tuple[Card, ...]:
        """Return the cards that NVML finds; a reason why it can't say is noted as a fault."""
        try:
            self._nvml = self._nvml or Nvml()
            return self._nvml.cards(devices)
        except NvmlFault as fault:
            self._faults[str(fault)] = None
            return ()

    def _use(self, uuid: str, phase: GpuPhase, found: _Readings) -> CardUse:
        return CardUse(
            card=uuid,
            roles=tuple(sorted(self._roles.get(uuid, ()))),
            phase=phase,
            total_bytes=found.total_bytes,
            peak_bytes=found.peak_bytes,
            busy_shares=tuple(found.busy_shares),
        )

    def _keep_reading(self) -> None:
        while not self._stop.wait(self._period_s):
            self.read()
