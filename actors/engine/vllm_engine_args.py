"""The arguments that vLLM is started with, on a CPU and on a GPU."""

from __future__ import annotations

from pathlib import Path

import vllm
from vllm.config import KVTransferConfig
from vllm.engine.arg_utils import EngineArgs

from floe.actors.engine.vllm_prompt_sharing import KNOWN_VERSIONS as VERSIONS_OF_PROMPT_SHARING
from floe.configs.schema import ModelSection
from floe.configs.sections.engine_batch import num_batched_tokens
from floe.configs.sections.learning_sections import LoraSection
from floe.configs.sections.sampling_sections import RolloutSection

LEAST_SHARE = 0.01  # of the card, for vLLM's check at the start


def engine_args(
    model_dir: Path,
    model: ModelSection,
    rollout: RolloutSection,
    lora: LoraSection,
    on_cpu: bool,
    can_sleep: bool = False,
    kv_cache_bytes: int | None = None,
) -> EngineArgs:
    """Return the arguments; without `kv_cache_bytes` the KV cache is as large as the configuration says."""
    arguments = EngineArgs(
        model=str(model_dir),
        dtype=rollout.dtype,
        max_model_len=model.max_context_tokens,
        max_num_seqs=rollout.max_num_seqs,
        max_num_batched_tokens=num_batched_tokens(model.max_context_tokens, rollout.max_num_seqs, on_cpu),
        # A partially prefilled request with its own seed kills the CPU engine (its generators have no offset).
        enable_chunked_prefill=not on_cpu,
        enable_prefix_caching=True,
        enable_lora=True,
        max_loras=rollout.num_live_adapters,
        max_cpu_loras=rollout.num_live_adapters,
        max_lora_rank=lora.rank,
        # After temperature, so that the learner can compute the same quantity.
        logprobs_mode="processed_logprobs",
        generation_config="vllm",
        worker_extension_cls="floe.actors.engine.vllm_adapter_slots.AdapterSlots",
        kv_transfer_config=prompt_sharing() if vllm_version() in VERSIONS_OF_PROMPT_SHARING else None,
        disable_log_stats=True,
        enforce_eager=on_cpu,
        enable_sleep_mode=can_sleep and not on_cpu,
        seed=0,
    )
    if on_cpu:
        arguments.distributed_executor_backend = "uni"
        arguments.block_size = 32  # CPU attention wants a multiple of 32; small blocks share more of a prompt
        arguments.kv_cache_memory_bytes = rollout.kv_cache_gib * 2**30 if kv_cache_bytes is None else kv_cache_bytes
    elif kv_cache_bytes is None:
        arguments.gpu_memory_utilization = rollout.gpu_memory_share
    else:
        # vLLM takes the cache's size as it is, so that nothing else on the card is charged to this engine while it
        # measures itself. The share then has no part in the size, but in a check before the weights are loaded: vLLM
        # refuses to start where less than the share of the card is free, which says nothing about this size. One batch
        # is still computed before the cache is made, and too little memory shows when it is made.
        arguments.kv_cache_memory_bytes = kv_cache_bytes
        arguments.gpu_memory_utilization = LEAST_SHARE
    return arguments


def prompt_sharing() -> KVTransferConfig:
    """Return the connector's configuration.

    With a role that receives, "kv_both" included, vLLM would hold the blocks of a finished request until every batch in
    flight has come back, because loads from elsewhere have no order. Copies within the cache have one: they run between
    the steps, on their stream. vLLM asks a connector of any role for what it can give.
    """
    return KVTransferConfig(
        kv_connector="PromptSharing",
        kv_connector_module_path="floe.actors.engine.vllm_prompt_sharing",
        kv_role="kv_producer",
    )


def vllm_version() -> str:
    """Return vLLM's version, without the kind of build."""
    version: str = vllm.__version__.split("+")[0]
    return version
