"""Fits the graph matching network to verified pairs (PyTorch)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from floe.cluster.graph_training.pairs import Pair
from floe.reward_service.graph.encoding import EncodedGraph, match_features
from floe.reward_service.graph.network import GraphMatchingNetwork, PairBatch, batch_of

MARGIN = 0.5
SHARPNESS, MIDDLE = 6.0, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPlan:
    margin_epochs: int = 4
    supervised_epochs: int = 4
    pairs_per_batch: int = 64
    learning_rate: float = 1e-3
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Example:
    graphs: tuple[EncodedGraph, EncodedGraph]
    matches: tuple[np.ndarray, np.ndarray]
    is_equal: bool


def examples_of(pairs: Sequence[Pair], encoded: Callable[[str, str], EncodedGraph]) -> list[Example]:
    """Return examples; `encoded` gives the graph of a database's SQL."""
    found = []
    for pair in pairs:
        a, b = encoded(pair.database_id, pair.gold), encoded(pair.database_id, pair.other)
        found.append(Example((a, b), (match_features(a, b), match_features(b, a)), pair.is_equal))
    return found


def margin_loss(distances: Tensor, is_equal: Tensor) -> Tensor:
    """Return max(0, margin - t (1 - d)), t = 1 for equal and -1 for different pairs (Li et al. 2019, equation 11).

    It is 0 for equal pairs nearer than 1/2 and different ones further than 3/2.
    """
    sign = is_equal * 2 - 1
    return (MARGIN - sign * (1 - distances)).relu().mean()


def supervised_loss(distances: Tensor, is_equal: Tensor) -> Tensor:
    """Return the verdict's cross-entropy, a pair's odds from its distance: even at 1/2, where the reward is 1/2."""
    return binary_cross_entropy_with_logits(SHARPNESS * (MIDDLE - distances), is_equal)


def fit(
    network: GraphMatchingNetwork, examples: Sequence[Example], plan: FitPlan, note: Callable[[str], object]
) -> None:
    """Fit by margin loss, then the supervised one, with one cosine schedule. The same seed gives the same weights."""
    rng = random.Random(plan.seed)
    num_epochs = plan.margin_epochs + plan.supervised_epochs
    num_steps = max(1, num_epochs * math.ceil(len(examples) / plan.pairs_per_batch))
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, weight_decay=0.01)
    warm_steps = max(1, num_steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm_steps, 0.5 * (1 + math.cos(math.pi * min(1.0, step / num_steps))) + 0.01),
    )
    share_equal = sum(example.is_equal for example in examples) / max(1, len(examples))
    network.train()
    for epoch in range(num_epochs):
        is_margin = epoch < plan.margin_epochs
        loss_of = margin_loss if is_margin else supervised_loss
        total, num_right = 0.0, 0
        for chosen in _batches(examples, plan.pairs_per_batch, rng):
            batch, is_equal = _batch(chosen, network, rng)
            found = network(batch)
            loss = loss_of(found, is_equal)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
            num_right += int(((found < MIDDLE) == (is_equal > 0.5)).sum())
        name = "margin" if is_margin else "supervised"
        right = num_right / max(1, len(examples))
        note(
            f"epoch {epoch + 1}/{num_epochs} ({name}): loss {total / max(1, len(examples)):.4f}, "
            f"right {right:.3f} of pairs ({share_equal:.3f} equal)"
        )
    network.eval()


def _batches(examples: Sequence[Example], size: int, rng: random.Random) -> list[list[Example]]:
    """Return all examples in a new order, with examples of about one size in a batch, to have little padding."""
    order = rng.sample(range(len(examples)), len(examples))
    num_nodes = [max(len(graph.kinds) for graph in example.graphs) for example in examples]
    batches = []
    for start in range(0, len(order), size * 16):
        near = sorted(order[start : start + size * 16], key=lambda index: num_nodes[index])
        batches += [[examples[index] for index in near[first : first + size]] for first in range(0, len(near), size)]
    rng.shuffle(batches)
    return batches


def _batch(chosen: Sequence[Example], network: GraphMatchingNetwork, rng: random.Random) -> tuple[PairBatch, Tensor]:
    # A pair's names get other embeddings each time: the network can't learn what they are, only whether they agree.
    salts = [rng.getrandbits(63) for _ in chosen]
    matches = [part for example in chosen for part in example.matches]
    batch = batch_of([example.graphs for example in chosen], network.shape.num_buckets, salts, matches)
    return batch, torch.tensor([float(example.is_equal) for example in chosen])
