"""What vLLM is started with on a CPU and on a GPU, and which size its KV cache is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from floe.configs.files.loading import load_config
from floe.configs.sections.engine_batch import num_batched_tokens

pytestmark = pytest.mark.engine

GIB = 2**30


@pytest.fixture
def arguments_for():
    from floe.actors.engine.vllm_engine_args import engine_args

    def make(*overrides: str, **options):
        config = load_config(None, ["rollout.gpu_memory_share=0.6", *overrides])
        return engine_args(Path("model"), config.model, config.rollout, config.lora, **options)

    return make


def test_a_gpus_cache_is_what_the_share_of_the_card_leaves_unless_its_size_is_given(arguments_for):
    by_share = arguments_for(on_cpu=False)
    assert (by_share.gpu_memory_utilization, by_share.kv_cache_memory_bytes) == (0.6, None)
    by_size = arguments_for(on_cpu=False, kv_cache_bytes=3 * GIB)
    assert by_size.kv_cache_memory_bytes == 3 * GIB
    # vLLM refuses to start where less than this share of the card is free: what the learner has taken may be more.
    assert 0 < by_size.gpu_memory_utilization < 0.02


def test_a_cpus_cache_has_the_size_of_the_configuration_unless_another_is_given(arguments_for):
    assert arguments_for("rollout.kv_cache_gib=4", on_cpu=True).kv_cache_memory_bytes == 4 * GIB
    assert arguments_for("rollout.kv_cache_gib=4", on_cpu=True, kv_cache_bytes=GIB).kv_cache_memory_bytes == GIB


def test_a_prompt_is_computed_in_several_steps_on_a_gpu_alone(arguments_for):
    long = "model.max_context_tokens=8192"
    assert not arguments_for(long, on_cpu=True).enable_chunked_prefill
    assert arguments_for(long, on_cpu=True).max_num_batched_tokens == 8192
    assert arguments_for(long, on_cpu=False).enable_chunked_prefill
    assert arguments_for(long, on_cpu=False).max_num_batched_tokens == 2048


@pytest.mark.parametrize(
    ("context_tokens", "max_num_seqs", "on_cpu", "num_tokens"),
    [(512, 64, True, 2048), (512, 64, False, 2048), (4096, 64, True, 4096), (4096, 3000, False, 3000)],
)
def test_a_step_holds_a_prompt_on_a_cpu_and_a_token_of_every_sequence_on_a_gpu(
    context_tokens, max_num_seqs, on_cpu, num_tokens
):
    assert num_batched_tokens(context_tokens, max_num_seqs, on_cpu) == num_tokens


def test_no_block_is_held_back_for_a_load_that_knows_no_order(arguments_for):
    transfer = arguments_for(on_cpu=False).kv_transfer_config
    assert transfer.is_kv_producer and not transfer.is_kv_consumer
