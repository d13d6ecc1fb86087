"""Memory that a GPU's processes keep pinned on the host while they sleep or are offloaded (pure)."""

from __future__ import annotations

from collections.abc import Iterator

from floe.cluster.memory_plan.shapes.model_shape import DTYPE_BYTES, ModelShape

MIB = 2**20
# PyTorch's allocator gives a request of at least this size its own block, in steps of 2 MiB; smaller ones share blocks
# of 20 MiB (c10 `CUDACachingAllocator`), which take 32 MiB when pinned.
OWN_BLOCK_BYTES = 10 * MIB
BLOCK_STEP_BYTES = 2 * MIB
SHARED_BLOCK_GROWTH = 32 / 20
# vLLM computes each of these groups in one product.
JOINED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def asleep_engine_bytes(shape: ModelShape, dtype: str, adapter_slots_bytes: int) -> int:
    """Return the pinned memory of a sleeping engine's weights and adapters.

    vLLM pins a host block for each block of its allocator, and PyTorch rounds each up to a power of two
    (`CachingHostAllocator.h`).
    """
    large = [num_bytes for num_bytes in _weights(shape, DTYPE_BYTES[dtype]) if num_bytes >= OWN_BLOCK_BYTES]
    small_bytes = shape.weight_bytes(dtype) - sum(large) + adapter_slots_bytes
    return sum(map(_pinned, large)) + int(small_bytes * SHARED_BLOCK_GROWTH)


def _weights(shape: ModelShape, width: int) -> Iterator[int]:
    num_embedding_copies = 1
    per_layer = {one.name: one for one in shape.projections}
    joined = {name for names in JOINED for name in names}
    for names in JOINED:
        parts = [per_layer[name] for name in names if name in per_layer]
        if parts:
            size = sum(one.num_inputs * one.num_outputs for one in parts) * width
            yield from [size] * parts[0].count
    for one in shape.projections:
        if one.name not in joined:
            yield from [one.num_inputs * one.num_outputs * width] * one.count
    in_layers = sum(one.num_inputs * one.num_outputs * one.count for one in shape.projections)
    if shape.num_parameters - in_layers >= 2 * shape.num_embedding_parameters:
        num_embedding_copies = 2  # the head is not tied
    yield from [shape.num_embedding_parameters * width] * num_embedding_copies


def _pinned(num_bytes: int) -> int:
    block_bytes = -(-num_bytes // BLOCK_STEP_BYTES) * BLOCK_STEP_BYTES
    return 1 << (block_bytes - 1).bit_length()
