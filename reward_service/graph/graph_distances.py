"""Distances of operator graphs by a trained network, each computed once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from floe.reward_service.bounded_cache import BoundedCache
from floe.reward_service.graph.encoding import Encoder
from floe.reward_service.graph.network import GraphMatchingNetwork, distances
from floe.reward_service.graph.network_files import read_network
from floe.reward_service.graph.terms import OperatorGraph

MAX_CACHED = 100_000

Pair = tuple[OperatorGraph, OperatorGraph]


class GraphDistances:
    """Distances by the network, for several threads. Equal graphs are at distance 0, whatever the network computes."""

    def __init__(self, network: GraphMatchingNetwork, encoder: Encoder) -> None:
        self._network = network
        self._encoder = encoder
        self._known: BoundedCache[tuple[int, int], float] = BoundedCache(MAX_CACHED)  # each counts as one
        self._lock = threading.Lock()

    @classmethod
    def read(cls, folder: Path) -> GraphDistances:
        """Read the network and set PyTorch to one thread: reward workers are many, and threads would wait for each
        other.

        Raises UserError.
        """
        torch.set_num_threads(1)
        return cls(*read_network(folder))

    def __call__(self, pairs: Sequence[Pair]) -> list[float]:
        """Return the distance of each pair; unknown pairs go through the network together."""
        keys = [(a.digest, b.digest) for a, b in pairs]
        with self._lock:
            found = {key: known for key in keys if (known := self._known.get(key)) is not None}
        found |= {key: 0.0 for key in keys if key[0] == key[1]}
        new = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in found}
        encoded = [(self._encoder.encode(a), self._encoder.encode(b)) for a, b in new.values()]
        made = dict(zip(new, distances(self._network, encoded), strict=True))
        with self._lock:
            for key, distance in made.items():
                self._known.put(key, distance, 1)
        return [(found | made)[key] for key in keys]
