"""Memory of the learner: weights, adapter, gradients, optimiser, and a bound of the work on one pack (pure).

Where a run has a GPU the work is counted instead (`learner_on_meta`). Bytes per element are those of `model.dtype`;
norms, optimiser and log-probabilities are in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from floe.cluster.memory_plan.learner.packs import PackShape
from floe.cluster.memory_plan.shapes.model_shape import DTYPE_BYTES, FLOAT32_BYTES, ModelShape
from floe.configs.schema import RunConfig

LOGITS_CHUNK_TOKENS = 128  # of learner/families/target_logprob.py
# Float32 logits, their exponentials while they are summed up, and the softmax in the head's type.
LOGITS_COPIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerState:
    """Memory held between two updates."""

    base_weights: int
    adapter: int  # the trained one, and the frozen reference of the KL term
    gradients: int
    optimizer: int
    optimizer_on_host: int

    @property
    def device_bytes(self) -> int:
        return self.base_weights + self.adapter + self.gradients + self.optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerWork:
    """Memory that one pack adds at its peak, the end of the forward pass and the backward pass of one layer."""

    # kept for the backward pass: of every layer, or the layers' inputs when they are computed again
    kept_activations: int
    layer_at_work: int
    logits: int

    @property
    def num_bytes(self) -> int:
        return self.kept_activations + self.layer_at_work + self.logits


def learner_state(config: RunConfig, shape: ModelShape) -> LearnerState:
    """Return the state of one rank."""
    width = DTYPE_BYTES[config.model.dtype]
    num_trained = shape.num_adapter_parameters(config.lora.rank, config.lora.target_modules)
    stage, num_ranks = config.learner.decided_zero_stage(config.model.dtype), config.learner.num_ranks
    # From stage 1 on (arXiv 1910.02054, section 5): a float32 master and its gradient, of this rank's part.
    split = num_trained // num_ranks if stage else num_trained
    master = FLOAT32_BYTES * split if stage else 0
    moments = 2 * FLOAT32_BYTES * split
    return LearnerState(
        base_weights=shape.weight_bytes(config.model.dtype),
        adapter=num_trained * width * (2 if config.keeps_reference else 1),
        gradients=_gradients(num_trained, split, width, stage),
        optimizer=0 if config.learner.offload_optimizer else master + moments,
        optimizer_on_host=master + moments if config.learner.offload_optimizer else 0,
    )


def _gradients(num_trained: int, split: int, width: int, stage: int) -> int:
    """Return the gradients' bytes: those of the backward pass and, from stage 1 on, bucket, sum and flat sum."""
    if stage == 0:
        return num_trained * width
    bucket = num_trained * (FLOAT32_BYTES if stage == 1 else width)
    return num_trained * width + bucket + 2 * FLOAT32_BYTES * split


def learner_work(config: RunConfig, shape: ModelShape, pack: PackShape) -> LearnerWork:
    width = DTYPE_BYTES[config.model.dtype]
    layer = (
        pack.num_tokens * kept_per_token(shape, width, config.lora.rank)
        + pack.num_branch_rows * kept_per_branch_row(shape, width)
        + pack.num_scores * kept_per_score(width)
    )
    gradients = (
        pack.num_tokens * at_work_per_token(shape, width)
        + pack.num_branch_rows * kept_per_branch_row(shape, width)
        + pack.num_scores_of_group * at_work_per_score(width)
    )
    # The last norm and, for the scored positions, the hidden states and the directions of their gradients.
    ends = pack.num_tokens * (3 * width + FLOAT32_BYTES) * shape.hidden
    logits = min(pack.num_tokens, LOGITS_CHUNK_TOKENS) * shape.logits_bytes_per_token * LOGITS_COPIES
    if config.learner.gradient_checkpointing:
        # Kept are the layers' inputs; one layer at a time is computed again (arXiv 1604.06174).
        inputs = pack.num_tokens * shape.hidden * width * shape.num_layers
        return LearnerWork(kept_activations=inputs + ends, layer_at_work=layer + gradients, logits=logits)
    return LearnerWork(kept_activations=layer * shape.num_layers + ends, layer_at_work=gradients, logits=logits)


def dropout_work(
    config: RunConfig, shape: ModelShape, work: LearnerWork, num_tokens: int, dropout: float
) -> LearnerWork:
    """Add what a dropout above 0 keeps: each adapter's own input, and a mask of bytes."""
    if dropout == 0:
        return work
    width = DTYPE_BYTES[config.model.dtype]
    wrapped = sum(one.num_inputs * one.count for one in shape.projections if one.name in config.lora.target_modules)
    kept = num_tokens * wrapped * (width + 1)
    if config.learner.gradient_checkpointing:
        return replace(work, layer_at_work=work.layer_at_work + kept // shape.num_layers)
    return replace(work, kept_activations=work.kept_activations + kept)


def kept_per_token(shape: ModelShape, width: int, rank: int) -> int:
    """Return bytes per layer that autograd keeps of a token, with frozen base weights and adapters on all projections.

    Per norm its float32 input and its output; queries, keys and values after rotation, the attention's output and its
    assembled copy; of the MLP the gate before and after the activation, the other factor and the product; the small
    side of each adapter. A frozen linear layer keeps nothing.
    """
    norms = 2 * (FLOAT32_BYTES + width) * shape.hidden
    heads = width * shape.head_size * (3 * shape.num_heads + 2 * shape.num_kv_heads)
    return norms + heads + 4 * width * shape.intermediate + 7 * width * rank


def kept_per_branch_row(shape: ModelShape, width: int) -> int:
    """Return bytes per layer of a completion's token, with padding: its gathered queries, keys, values and output."""
    return 4 * width * shape.num_heads * shape.head_size


def at_work_per_token(shape: ModelShape, width: int) -> int:
    """Return the bytes of the gradients within one layer: four of the MLP's width, and float32 ones of the norms."""
    return 4 * width * shape.intermediate + 3 * FLOAT32_BYTES * shape.hidden


def kept_per_score(width: int) -> int:
    """Return the bytes of the float32 softmax, and of its parts as factors of the products with the values."""
    return FLOAT32_BYTES + width


def at_work_per_score(width: int) -> int:
    return 2 * FLOAT32_BYTES + 2 * width
