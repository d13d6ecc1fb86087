"""Operator graphs as arrays, alone and in pairs that are compared, as the network's input (pure numpy).

Kinds and roles come from a vocabulary; names of tables, columns and literals are hashes, since another database has
other names. Only their equality in both graphs counts. The match features give it for each node, alone, together with
its neighbourhood (Weisfeiler and Leman's refinement), and with all nodes below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from xxhash import xxh3_64_intdigest

from floe.reward_service.graph.terms import OperatorGraph

NUM_REFINEMENTS = 3
NUM_MATCH_FEATURES = NUM_REFINEMENTS + 3  # and label, name and signature
MAX_PLACE = 7  # operands beyond this number share a role
UNKNOWN = 0

_PLACE = re.compile(r"\d+$")
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Kinds of nodes and roles of edges by number, from 1; 0 is any other."""

    kinds: tuple[str, ...]
    roles: tuple[str, ...]

    @classmethod
    def of(cls, graphs: Iterable[OperatorGraph]) -> Vocabulary:
        kinds: set[str] = set()
        roles: set[str] = set()
        for graph in graphs:
            kinds.update(node.kind for node in graph.nodes)
            roles.update(role_of(edge.role) for edge in graph.edges)
        return cls(tuple(sorted(kinds)), tuple(sorted(roles)))


@dataclass(frozen=True, slots=True)
class EncodedGraph:
    """N nodes, E edges."""

    kinds: np.ndarray  # [N] int64
    names: np.ndarray  # [N, 2] uint64: hashes of name and owner, 0 where there is none
    ends: np.ndarray  # [E, 2] int64: parent and child
    roles: np.ndarray  # [E] int64
    levels: np.ndarray  # [N, NUM_MATCH_FEATURES] uint64: values to compare with those of the other graph's nodes


class Encoder:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._kinds = {kind: number for number, kind in enumerate(vocabulary.kinds, start=1)}
        self._roles = {role: number for number, role in enumerate(vocabulary.roles, start=1)}

    def encode(self, graph: OperatorGraph) -> EncodedGraph:
        ends = np.array([(edge.parent, edge.child) for edge in graph.edges], dtype=np.int64).reshape(-1, 2)
        role_hashes = np.array([_hash(role_of(edge.role)) for edge in graph.edges], dtype=np.uint64)
        names = np.array([(_hash(node.name), _hash(node.owner)) for node in graph.nodes], dtype=np.uint64)
        labels = np.array([_hash("\0".join(node)) for node in graph.nodes], dtype=np.uint64)
        signatures = np.array(graph.signatures, dtype=np.uint64)
        return EncodedGraph(
            kinds=np.array([self._kinds.get(node.kind, UNKNOWN) for node in graph.nodes], dtype=np.int64),
            names=names,
            ends=ends,
            roles=np.array([self._roles.get(role_of(edge.role), UNKNOWN) for edge in graph.edges], dtype=np.int64),
            levels=np.stack([labels, names[:, 0], *_refined(labels, ends, role_hashes), signatures], axis=1),
        )


def role_of(role: str) -> str:
    """Return the role with its number cut at MAX_PLACE."""
    return _PLACE.sub(lambda match: str(min(int(match.group()), MAX_PLACE)), role)


def match_features(graph: EncodedGraph, other: EncodedGraph) -> np.ndarray:
    """Return [N, NUM_MATCH_FEATURES] float32 in 0 to 1: the number of each node's equals there over that here."""
    own = (graph.levels[:, None] == graph.levels[None]).sum(1)
    others = (graph.levels[:, None] == other.levels[None]).sum(1)
    likeness: np.ndarray = np.minimum(1.0, others / own).astype(np.float32)
    return likeness


def _hash(text: str) -> int:
    return xxh3_64_intdigest(text.encode("utf-8", "backslashreplace")) if text else 0


def _mixed(values: np.ndarray) -> np.ndarray:
    """Spread 64-bit values (the finalizer of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def _refined(labels: np.ndarray, ends: np.ndarray, roles: np.ndarray) -> list[np.ndarray]:
    """Return a colour per node for each round: its own and the multiset of its neighbours', separate by direction."""
    colours, found = labels, []
    parents, children = ends[:, 0], ends[:, 1]
    for _ in range(NUM_REFINEMENTS):
        gathered = colours * _ODD
        np.add.at(gathered, parents, _mixed(colours[children] ^ roles))
        np.add.at(gathered, children, _mixed(_mixed(colours[parents]) ^ roles))
        colours = _mixed(gathered)
        found.append(colours)
    return found


def bucket_numbers(names: np.ndarray, salts: np.ndarray, num_buckets: int) -> np.ndarray:
    """Return [N, 2] int64 rows of an embedding table: 0 for no name, otherwise 1 to `num_buckets - 1`.

    `salts` [N] uint64 moves equal names to other rows; a trained network is used with 0.
    """
    spread = _mixed(names ^ salts[:, None]) % np.uint64(num_buckets - 1) + np.uint64(1)
    return np.where(names == 0, 0, spread).astype(np.int64)
