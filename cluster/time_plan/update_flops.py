"""Floating-point operations in the matmuls of an update, from the model's sizes and the packs (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe.cluster.memory_plan.shapes.projections import adapter_sizes, projection_sizes

if TYPE_CHECKING:
    from floe.configs.sections.learning_sections import LoraSection
    from floe.learner.packing.packs import Pack


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSizes:
    """A Llama-shaped model with LoRA adapters on a frozen base."""

    num_layers: int
    projections: tuple[tuple[int, int], ...]  # (in, out) of a layer's seven
    lora_weights: int  # parameters of a layer, A and B
    attention_width: int  # query heads x head size
    hidden: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any, lora: LoraSection) -> ModelSizes:
        """Make the sizes from the configuration that transformers gives the model."""
        projections, adapted = projection_sizes(config), adapter_sizes(config)
        return cls(
            num_layers=config.num_hidden_layers,
            projections=tuple(projections.values()),
            lora_weights=sum(lora.rank * sum(adapted[name]) for name in lora.target_modules),
            attention_width=projections["q_proj"][1],
            hidden=config.hidden_size,
            vocabulary=config.vocab_size,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Work that packs ask of the model."""

    num_tokens: int
    num_scored: int
    num_pairs: int  # pairs of a query and a key that it may see


def work_of(packs: Sequence[Pack]) -> Work:
    num_pairs = 0
    for group in (group for pack in packs for group in pack.layout):
        span = group.prefix_end - group.prefix_start
        num_pairs += _causal_pairs(span)
        num_pairs += sum(span * length + _causal_pairs(length) for length in group.branch_is_real.sum(dim=1).tolist())
    return Work(
        num_tokens=sum(pack.input_ids.shape[1] for pack in packs),
        num_scored=sum(len(pack.source) for pack in packs),
        num_pairs=num_pairs,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Flops:
    """Operations of forward and backward together; a multiplication and an addition are two."""

    projections: int
    lora: int
    attention: int
    head: int

    @property
    def total(self) -> int:
        return self.projections + self.lora + self.attention + self.head


def update_flops(model: ModelSizes, work: Work) -> Flops:
    """Return the operations without recomputation, and with a triangle's half for causal attention.

    Per weight and token: 2 forward and 2 for the gradient of the input, 2 more for a weight that is trained. Per pair
    and unit of width: 2 for the score and 2 for the value, twice that backward. Per weight of the head and scored
    token: 2 for the logit and 2 for the gradient of the hidden state.
    """
    base_weights = sum(inputs * outputs for inputs, outputs in model.projections)
    return Flops(
        projections=4 * work.num_tokens * model.num_layers * base_weights,
        lora=6 * work.num_tokens * model.num_layers * model.lora_weights,
        attention=12 * work.num_pairs * model.num_layers * model.attention_width,
        head=4 * work.num_scored * model.hidden * model.vocabulary,
    )


def _causal_pairs(length: int) -> int:
    return length * (length + 1) // 2
