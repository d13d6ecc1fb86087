"""Models whose dimensions are listed here: a plan for them needs no connection and no modelling code (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from floe.cluster.memory_plan.shapes.model_shape import ModelShape, Projection
from floe.cluster.memory_plan.shapes.projections import projection_sizes
from floe.cluster.models.model_folder import SMOLLM2, TINY_QWEN2

QWEN = "Qwen/Qwen2.5-Coder"
INSTRUCT = "-Instruct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """The numbers of a Llama or Qwen2 decoder's configuration file, under transformers' names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    tie_word_embeddings: bool = True
    model_type: str = "qwen2"


PUBLISHED: dict[str, Dimensions] = {
    f"{QWEN}-0.5B": Dimensions(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
    ),
    f"{QWEN}-1.5B": Dimensions(
        vocab_size=151_936,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
    ),
    f"{QWEN}-3B": Dimensions(
        vocab_size=151_936,
        hidden_size=2048,
        intermediate_size=11_008,
        num_hidden_layers=36,
        num_attention_heads=16,
        num_key_value_heads=2,
    ),
    f"{QWEN}-7B": Dimensions(
        vocab_size=152_064,
        hidden_size=3584,
        intermediate_size=18_944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    ),
    SMOLLM2: Dimensions(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        model_type="llama",
    ),
    TINY_QWEN2: Dimensions(
        vocab_size=3000,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    ),
}


def is_published(name: str) -> bool:
    """Return whether `published_shape` knows the model."""
    return plain_name(name) in PUBLISHED


def plain_name(name: str) -> str:
    """Return the name of the base model, whose dimensions an instructed one shares."""
    return name.removesuffix(INSTRUCT)


def published_shape(name: str) -> ModelShape:
    """Return the shape of a model in `PUBLISHED`, base or instruct."""
    return _shape(name, PUBLISHED[plain_name(name)])


def _shape(name: str, of: Dimensions) -> ModelShape:
    """Count a decoder's parameters; those outside of its projections are embeddings, norms and, in Qwen2, biases."""
    head_size = of.hidden_size // of.num_attention_heads
    hidden, inner, num_layers = of.hidden_size, of.intermediate_size, of.num_hidden_layers
    sizes = projection_sizes(of)
    num_biases = sum(sizes[name][1] for name in ("q_proj", "k_proj", "v_proj")) if of.model_type == "qwen2" else 0
    per_layer = sum(inputs * outputs for inputs, outputs in sizes.values()) + 2 * hidden + num_biases
    embeddings = of.vocab_size * hidden
    return ModelShape(
        name=name,
        num_parameters=num_layers * per_layer + hidden + embeddings * (1 if of.tie_word_embeddings else 2),
        num_embedding_parameters=embeddings,
        hidden=hidden,
        intermediate=inner,
        num_layers=num_layers,
        num_heads=of.num_attention_heads,
        num_kv_heads=of.num_key_value_heads,
        head_size=head_size,
        vocabulary=of.vocab_size,
        projections=tuple(
            Projection(name=leaf, num_inputs=inputs, num_outputs=outputs, count=num_layers)
            for leaf, (inputs, outputs) in sizes.items()
        ),
    )
