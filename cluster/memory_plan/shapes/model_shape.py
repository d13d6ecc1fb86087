"""A decoder's dimensions and what follows from them: bytes of weights, adapter, KV cache and logits (pure)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

FLOAT32_BYTES = 4
DTYPE_BYTES = {"bfloat16": 2, "float32": FLOAT32_BYTES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """One linear layer that an adapter can wrap, in every decoder layer."""

    name: str
    num_inputs: int
    num_outputs: int
    count: int  # in the whole model


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Shape of a Llama- or Qwen2-like decoder. `num_parameters` counts tied embeddings once."""

    name: str
    num_parameters: int
    num_embedding_parameters: int
    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    vocabulary: int
    projections: tuple[Projection, ...]

    def weight_bytes(self, dtype: str) -> int:
        return self.num_parameters * DTYPE_BYTES[dtype]

    def num_adapter_parameters(self, rank: int, target_modules: Collection[str]) -> int:
        """Return the size of A [rank, inputs] and B [outputs, rank] of each wrapped layer.

        LoRA: arXiv 2106.09685, section 4.1.
        """
        return sum(
            one.count * rank * (one.num_inputs + one.num_outputs)
            for one in self.projections
            if one.name in target_modules
        )

    def kv_bytes_per_token(self, dtype: str) -> int:
        """Return the bytes of keys and values of every layer."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_size * DTYPE_BYTES[dtype]

    @property
    def logits_bytes_per_token(self) -> int:
        """Bytes of a token's logits in float32."""
        return self.vocabulary * FLOAT32_BYTES
