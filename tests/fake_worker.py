"""vLLM's own scheduler with prompt sharing, and a worker that computes nothing but keeps account of the KV cache."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import torch
from vllm.config import CacheConfig, DeviceConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from floe.actors.engine.vllm_engine_args import prompt_sharing
from tests.tiny_models import tiny_llama_config

BLOCK = 16
END = 1
CONTEXT = 256


class FakeWorker:
    """Steps as vLLM's engine core does; its KV cache holds what each position was computed from."""

    def __init__(self, folder: Path, is_async: bool, num_batched_tokens: int = 2048, num_blocks: int = 64) -> None:
        tiny_llama_config().save_pretrained(folder)
        config = VllmConfig(
            model_config=ModelConfig(model=str(folder), skip_tokenizer_init=True, max_model_len=CONTEXT),
            scheduler_config=SchedulerConfig(
                max_num_seqs=16, max_num_batched_tokens=num_batched_tokens, max_model_len=CONTEXT,
                enable_chunked_prefill=num_batched_tokens < CONTEXT, is_encoder_decoder=False,
            ),
            cache_config=CacheConfig(block_size=BLOCK, enable_prefix_caching=True),
            device_config=DeviceConfig("cpu"),
            kv_transfer_config=prompt_sharing(),
        )  # fmt: skip
        config.scheduler_config.async_scheduling = is_async  # the platform has switched it off for CPUs
        config.cache_config.num_gpu_blocks = num_blocks
        layer = FullAttentionSpec(block_size=BLOCK, num_kv_heads=2, head_size=8, dtype=torch.float32)
        cache = KVCacheConfig(
            num_blocks=num_blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], layer)]
        )
        self.scheduler = config.scheduler_config.get_scheduler_cls()(
            vllm_config=config, kv_cache_config=cache, block_size=BLOCK, log_stats=False,
            structured_output_manager=StructuredOutputManager(config),
        )  # fmt: skip
        init_none_hash(sha256)
        self._hasher = get_request_block_hasher(BLOCK, sha256)
        self._num_in_flight = config.max_concurrent_batches
        self.in_flight: deque[tuple[SchedulerOutput, ModelRunnerOutput]] = deque()
        self._cache: dict[tuple[int, int], tuple] = {}  # what a block's slot was computed from
        self.num_computed = 0  # prompt tokens
        self.num_sampled = 0

    def ask(self, name: str, prompt: list[int], seed: int, num_tokens: int) -> None:
        """Queue a candidate whose tokens are `token_of`'s."""
        sampling = SamplingParams(max_tokens=num_tokens, temperature=1.0, seed=seed, logprobs=0)
        sampling.update_from_generation_config({}, END)
        self.scheduler.add_request(
            Request(
                request_id=name, prompt_token_ids=prompt, sampling_params=sampling, pooling_params=None,
                block_hasher=self._hasher,
            )
        )  # fmt: skip

    def run(self, ends: dict[str, int] | None = None) -> Iterator[tuple[str, list[int]]]:
        """Yield each candidate as it finishes; `ends` says after how many tokens one stops, before its limit."""
        tokens: dict[str, list[int]] = {}
        while self.scheduler.has_unfinished_requests():
            self._launch(ends or {})
            if len(self.in_flight) < self._num_in_flight and self.in_flight[0][0].num_scheduled_tokens:
                continue
            yield from self._receive(tokens)

    def drain(self) -> None:
        while self.in_flight or self.scheduler.has_requests():
            if self.scheduler.has_requests():
                self._launch({})
            list(self._receive({}))

    def _receive(self, tokens: dict[str, list[int]]) -> Iterator[tuple[str, list[int]]]:
        outputs = self.scheduler.update_from_output(*self.in_flight.pop()).get(0)
        for one in outputs.outputs if outputs else ():
            tokens.setdefault(one.request_id, []).extend(one.new_token_ids)
            if one.finish_reason is not None:
                yield one.request_id, tokens.pop(one.request_id, [])

    def _launch(self, ends: dict[str, int]) -> None:
        """Schedule a step and compute it at once; what it samples waits for its turn."""
        step = self.scheduler.schedule()
        copies = step.kv_connector_metadata
        assert step.has_sync_kv_loads or not copies.sources  # else vLLM would copy after the step's computation
        for source, target in zip(copies.sources, copies.targets, strict=True):
            for slot in range(BLOCK):
                self._cache[target, slot] = self._cache.get((source, slot), ())
        for name, num_tokens in step.num_scheduled_tokens.items():
            self._compute(self.scheduler.requests[name], num_tokens)
        names = list(step.num_scheduled_tokens)
        sampled = [self._sampled(self.scheduler.requests[name], ends.get(name)) for name in names]
        self.num_sampled += sum(map(len, sampled))
        order = {name: place for place, name in enumerate(names)}
        self.in_flight.appendleft((step, ModelRunnerOutput(names, order, sampled)))

    def _compute(self, request: Request, num_tokens: int) -> None:
        """Write the step's positions; all before them must hold what belongs there."""
        table = self.scheduler.kv_cache_manager.get_block_ids(request.request_id)[0]
        end = request.num_computed_tokens  # of this step
        for position in range(end):
            slot = table[position // BLOCK], position % BLOCK
            if position >= end - num_tokens:
                self._cache[slot] = content(request, position)
                self.num_computed += position < request.num_prompt_tokens
            assert self._cache.get(slot) == content(request, position), (request.request_id, position)

    @staticmethod
    def _sampled(request: Request, num_until_end: int | None) -> list[int]:
        if request.is_prefill_chunk:
            return []
        number = request.num_computed_tokens - request.num_prompt_tokens  # of tokens sampled before
        return [END if number + 1 == num_until_end else token_of(request.request_id, number)]


def token_of(name: str, number: int) -> int:
    return 2 + sum(name.encode()) + number


def content(request: Request, position: int) -> tuple:
    """Return what stands for keys and values: the tokens up to the position, or whose own it is."""
    if position < request.num_prompt_tokens:
        return tuple(request.prompt_token_ids[: position + 1])
    return request.request_id, position
