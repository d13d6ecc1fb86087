"""Memory of the rollout engine: weights, adapter slots, KV cache, and the working memory of one batch (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from floe.cluster.memory_plan.shapes.model_shape import DTYPE_BYTES, FLOAT32_BYTES, ModelShape
from floe.configs.schema import RunConfig
from floe.configs.sections.engine_batch import num_batched_tokens

KV_BLOCK_TOKENS = {True: 32, False: 16}  # on CPU or not
# Float32 logits, their log-softmax and a copy for sampling, for each sequence.
SAMPLER_COPIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """The engine's memory except the KV cache."""

    base_weights: int
    packed_embeddings: int  # on a CPU
    adapter_slots: int
    activations: int
    sampler: int

    @property
    def num_bytes(self) -> int:
        return self.base_weights + self.packed_embeddings + self.adapter_slots + self.activations + self.sampler


def engine_state(config: RunConfig, shape: ModelShape, on_cpu: bool) -> EngineState:
    width = DTYPE_BYTES[config.rollout.dtype]
    rank = config.lora.rank
    # vLLM wraps the LM head too, whatever the adapter has.
    slot = shape.num_adapter_parameters(rank, config.lora.target_modules) + rank * (shape.hidden + shape.vocabulary)
    batched = num_batched_tokens(config.model.max_context_tokens, config.rollout.max_num_seqs, on_cpu)
    # Hidden state, residual, norm and attention, in addition to the MLP's two factors and their product.
    per_token = width * (4 * shape.hidden + 3 * shape.intermediate)
    return EngineState(
        base_weights=shape.weight_bytes(config.rollout.dtype),
        # On a CPU vLLM packs every matrix for oneDNN in place of the original. Embedding and LM head are packed in
        # addition to the original, and both even where they are tied
        # (`UnquantizedEmbeddingMethod.process_weights_after_loading`).
        packed_embeddings=2 * shape.vocabulary * shape.hidden * width if on_cpu else 0,
        adapter_slots=config.rollout.num_live_adapters * slot * width,
        activations=batched * per_token,
        sampler=config.rollout.max_num_seqs * shape.vocabulary * FLOAT32_BYTES * SAMPLER_COPIES,
    )


def kv_bytes(config: RunConfig, shape: ModelShape, num_tokens: int, on_cpu: bool) -> int:
    """Return the bytes of one sequence, in whole blocks (arXiv 2309.06180, section 4.1)."""
    block = KV_BLOCK_TOKENS[on_cpu]
    return -(-num_tokens // block) * block * shape.kv_bytes_per_token(config.rollout.dtype)


def group_kv_bytes(config: RunConfig, shape: ModelShape, on_cpu: bool) -> int:
    """Return the bytes of the longest prompt once and a largest group of the longest completions."""
    completions = config.rollout.largest_group * kv_bytes(config, shape, config.rollout.max_new_tokens, on_cpu)
    return kv_bytes(config, shape, config.max_prompt_tokens, on_cpu) + completions
