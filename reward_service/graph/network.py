"""The graph matching network: the distance of two operator graphs (PyTorch).

The design is that of Li et al. 2019 (arXiv 1904.12787, section 3.3): messages within each graph, cross-graph attention
whose difference to a node's own state goes into the update, gated sums over the nodes (their equation 3), Euclidean
distance of the two graph embeddings. FuncEvalGMN (arXiv 2407.14530) applies it to SQL. Deviations: layers share no
weights, states are normalised after each update, and nodes carry match features (`encoding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from floe.reward_service.graph.encoding import NUM_MATCH_FEATURES, EncodedGraph, bucket_numbers, match_features

EPSILON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    num_kinds: int  # with the unknown one
    num_roles: int
    dim: int = 192
    num_layers: int = 4
    name_dim: int = 128
    kind_dim: int = 64
    num_buckets: int = 8192
    readout_dim: int = 512
    hidden_dim: int = 1024
    embedding_dim: int = 256


@dataclass(frozen=True, slots=True)
class PairBatch:
    """P pairs as 2P graphs, the two of a pair next to each other; N nodes and E edges in all."""

    kinds: Tensor  # [N]
    names: Tensor  # [N, 2]
    matches: Tensor  # [N, NUM_MATCH_FEATURES]
    parents: Tensor  # [E]
    children: Tensor  # [E]
    roles: Tensor  # [E]
    graph_of_node: Tensor  # [N]
    place: Tensor  # [N]: a node's row in the padded table of 2P * width rows
    width: int
    num_pairs: int


GraphPair = tuple[EncodedGraph, EncodedGraph]


def batch_of(
    pairs: Sequence[GraphPair], num_buckets: int, salts: Sequence[int] | None = None, matches: Sequence[np.ndarray] = ()
) -> PairBatch:
    """Return the batch; `salts`, one per pair, change its embeddings; `matches` are its graphs' features, if known."""
    graphs = [graph for pair in pairs for graph in pair]
    sizes = np.array([len(graph.kinds) for graph in graphs])
    starts = np.cumsum(sizes) - sizes
    width = int(sizes.max())
    graph_of_node = np.repeat(np.arange(len(graphs)), sizes)
    found = matches or [part for a, b in pairs for part in (match_features(a, b), match_features(b, a))]
    node_salts = np.repeat(np.repeat(np.array(salts or [0] * len(pairs), dtype=np.uint64), 2), sizes)
    ends = np.concatenate([graph.ends + start for graph, start in zip(graphs, starts, strict=True)])
    names = np.concatenate([graph.names for graph in graphs])
    place = graph_of_node * width + np.arange(len(graph_of_node)) - starts[graph_of_node]
    return PairBatch(
        kinds=torch.from_numpy(np.concatenate([graph.kinds for graph in graphs])),
        names=torch.from_numpy(bucket_numbers(names, node_salts, num_buckets)),
        matches=torch.from_numpy(np.concatenate(found)),
        parents=torch.from_numpy(ends[:, 0].copy()),
        children=torch.from_numpy(ends[:, 1].copy()),
        roles=torch.from_numpy(np.concatenate([graph.roles for graph in graphs])),
        graph_of_node=torch.from_numpy(graph_of_node),
        place=torch.from_numpy(place),
        width=width,
        num_pairs=len(pairs),
    )


class MatchingLayer(nn.Module):
    """One round of messages within the graphs and of attention between the two of a pair."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        dim = shape.dim
        self.sender = nn.Linear(dim, dim, bias=False)
        self.receiver = nn.Linear(dim, dim, bias=False)
        self.role = nn.Embedding(2 * shape.num_roles, dim)  # along an edge, and against it
        self.message = nn.Linear(dim, dim)
        self.update = nn.GRUCell(2 * dim, dim)
        self.norm = nn.LayerNorm(dim)
        self._num_roles = shape.num_roles

    def forward(self, states: Tensor, batch: PairBatch) -> Tensor:
        """Return the nodes' next states: [N, dim] to [N, dim]."""
        sources = torch.cat([batch.children, batch.parents])
        targets = torch.cat([batch.parents, batch.children])
        roles = self.role(torch.cat([batch.roles, batch.roles + self._num_roles]))
        sent = torch.relu(self.sender(states)[sources] + self.receiver(states)[targets] + roles)
        gathered = torch.zeros_like(states).index_add(0, targets, sent)
        inputs = torch.cat([self.message(gathered), states - _attended(states, batch)], dim=1)
        updated: Tensor = self.norm(self.update(inputs, states))
        return updated


def _attended(states: Tensor, batch: PairBatch) -> Tensor:
    """Return [N, dim]: for each node, the mean of the other graph's states, weighted by their likeness to it."""
    dim = states.shape[1]
    num_rows = 2 * batch.num_pairs * batch.width
    padded = states.new_zeros(num_rows, dim).index_copy(0, batch.place, states)
    is_node = torch.zeros(num_rows, dtype=torch.bool).index_fill(0, batch.place, True)
    own = padded.view(batch.num_pairs, 2, batch.width, dim)
    other = own.flip(1)
    likeness = own @ other.transpose(2, 3) / dim**0.5
    hidden = ~is_node.view(batch.num_pairs, 2, 1, batch.width).flip(1)
    weights = likeness.masked_fill(hidden, float("-inf")).softmax(dim=-1)
    attended: Tensor = (weights @ other).reshape(num_rows, dim)[batch.place]
    return attended


class GraphMatchingNetwork(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.kind = nn.Embedding(shape.num_kinds, shape.kind_dim)
        self.name = nn.Embedding(shape.num_buckets, shape.name_dim, padding_idx=0)
        self.enter = nn.Linear(shape.kind_dim + 2 * shape.name_dim + NUM_MATCH_FEATURES, shape.dim)
        self.layers = nn.ModuleList(MatchingLayer(shape) for _ in range(shape.num_layers))
        self.gate = nn.Linear(shape.dim + NUM_MATCH_FEATURES, shape.readout_dim)
        self.value = nn.Linear(shape.dim + NUM_MATCH_FEATURES, shape.readout_dim)
        self.embed = nn.Sequential(
            nn.Linear(shape.readout_dim, shape.hidden_dim), nn.ReLU(), nn.Linear(shape.hidden_dim, shape.embedding_dim)
        )

    def forward(self, batch: PairBatch) -> Tensor:
        """Return [P] distances, 0 or more."""
        names = self.name(batch.names).flatten(1)
        states = torch.tanh(self.enter(torch.cat([self.kind(batch.kinds), names, batch.matches], dim=1)))
        for layer in self.layers:
            states = layer(states, batch)
        seen = torch.cat([states, batch.matches], dim=1)
        parts = torch.sigmoid(self.gate(seen)) * self.value(seen)
        sums = parts.new_zeros(2 * batch.num_pairs, parts.shape[1]).index_add(0, batch.graph_of_node, parts)
        embedded = self.embed(sums).view(batch.num_pairs, 2, -1)
        squares = (embedded[:, 0] - embedded[:, 1]).square().sum(-1)
        distances: Tensor = (squares + EPSILON**2).sqrt() - EPSILON  # the root's slope at 0 is infinite
        return distances

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def distances(network: GraphMatchingNetwork, pairs: Sequence[GraphPair], pairs_at_once: int = 64) -> list[float]:
    """Return the distance of each pair, without gradients."""
    found: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(pairs), pairs_at_once):
            batch = batch_of(pairs[start : start + pairs_at_once], network.shape.num_buckets)
            found += network(batch).tolist()
    return found
