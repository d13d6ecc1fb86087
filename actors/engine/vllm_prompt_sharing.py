"""vLLM KV connector: a group's prompt is computed once to the last token but one.

vLLM's prefix cache shares whole blocks. The rest of a prompt after its last whole block, up to 31 tokens on CPU, would
be computed again for every candidate: for 16 candidates of 24 tokens that is about as much work as the candidates. Here
the first request of a prompt computes it, in one step or in several. The others wait until the last of these steps has
been scheduled, and get copies of the block that the prefix cache lacks. They compute only the last prompt token, from
which they sample. A copy is made on the stream of the steps, after the step that computed its source, whether or not
vLLM waits for a step's tokens before it schedules the next one. Used with the vLLM versions in `KNOWN_VERSIONS`; any
other uses only its prefix cache.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)

from floe.configs.errors import UserError

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

KNOWN_VERSIONS = ("0.32.0",)

Key = tuple[int, tuple[int, ...]]  # adapter id, prompt tokens


@dataclass
class BlockCopies(KVConnectorMetadata):  # type: ignore[misc]  # mypy doesn't read vLLM
    """Message from scheduler to worker: blocks to copy before the step computes anything."""

    sources: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)


class PromptSharing(KVConnectorBase_V1):  # type: ignore[misc]  # mypy doesn't read vLLM
    """Connector of which one object plans in the scheduler and another copies in the worker."""

    # Number of computed prompt tokens; kept on the class, because vLLM makes the objects and has no way to ask them.
    _num_computed: ClassVar[Counter[Key]] = Counter()

    def __init__(self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        self._block_size = vllm_config.cache_config.block_size
        self._leaders: dict[Key, Request] = {}
        # requests of whose prompt a part is still to be scheduled, by request id
        self._prefilling: dict[str, Request] = {}
        self._copies = BlockCopies()
        self._kv_caches: list[torch.Tensor] = []

    @classmethod
    def take_num_computed(cls, adapter_id: int, prompt_token_ids: tuple[int, ...]) -> int:
        """Return how many tokens of this prompt its requests had computed since the last call."""
        return cls._num_computed.pop((adapter_id, prompt_token_ids), 0)

    @property
    def requires_kv_delivery(self) -> bool:
        """False: nothing waits for what a request leaves, and one that loses its blocks keeps the token under way."""
        return False

    # In the scheduler.

    def get_num_new_matched_tokens(self, request: Request, num_computed_tokens: int) -> tuple[int | None, bool]:
        """Return how many tokens a copy adds to the prefix cache's; None while the leader's prompt is computed."""
        leader = self._leaders.get(_key(request))
        if leader is None or leader is request or leader.is_finished() or leader.num_preemptions > 0:
            self._leaders[_key(request)] = request
            return 0, False
        if leader.num_computed_tokens < request.num_prompt_tokens:
            return None, False
        return max(0, request.num_prompt_tokens - 1 - num_computed_tokens), False

    def update_state_after_alloc(self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int) -> None:
        self._prefilling[request.request_id] = request
        if num_external_tokens > 0:
            first_missing = (request.num_prompt_tokens - 1 - num_external_tokens) // self._block_size
            last_missing = (request.num_prompt_tokens - 2) // self._block_size
            # Asked for now, because a leader whose prompt takes several steps gets its blocks step by step.
            assert self._kv_cache_manager is not None
            leader_blocks = self._kv_cache_manager.get_block_ids(self._leaders[_key(request)].request_id)[0]
            self._copies.sources += leader_blocks[first_missing : last_missing + 1]
            self._copies.targets += blocks.get_block_ids()[0][first_missing : last_missing + 1]

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        for request_id, request in list(self._prefilling.items()):
            # vLLM counts the step's tokens as computed after this.
            num_missing = request.num_prompt_tokens - request.num_computed_tokens
            num_scheduled = scheduler_output.num_scheduled_tokens.get(request_id, 0)
            self._num_computed[_key(request)] += max(0, min(num_scheduled, num_missing))
            if num_scheduled >= num_missing:
                del self._prefilling[request_id]
        copies, self._copies = self._copies, BlockCopies()
        return copies

    def request_finished(self, request: Request, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        self._prefilling.pop(request.request_id, None)
        if self._leaders.get(_key(request)) is request:
            del self._leaders[_key(request)]
        return False, None

    # In the worker.

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Keep the layers' caches [blocks, ...]. Raises UserError where kernels split the blocks of the scheduler."""
        num_blocks = self._kv_cache_config.num_blocks
        for name, cache in kv_caches.items():
            if cache.shape[0] != num_blocks:
                raise UserError(
                    f"The engine can't share prompts: its attention kernels have {cache.shape[0]} blocks in {name} "
                    f"where vLLM's scheduler has {num_blocks} of {self._block_size} tokens, and blocks are copied "
                    "whole: take a model or a GPU whose kernels take the scheduler's blocks, and report this one."
                )
        self._kv_caches = list(kv_caches.values())

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        copies = self._get_connector_metadata()
        assert isinstance(copies, BlockCopies)
        if not copies.sources:
            return
        device = self._kv_caches[0].device
        # Once a step for all layers, and pinned, so that the transfer to a GPU blocks nothing.
        indices = torch.tensor([copies.sources, copies.targets], pin_memory=device.type == "cuda")
        sources, targets = indices.to(device, non_blocking=True)
        for cache in self._kv_caches:
            # Whole blocks are copied: what the leader has written after the prompt, the candidate overwrites before it
            # reads it.
            cache.index_copy_(0, targets, cache.index_select(0, sources))

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Make the copies before the first layer."""

    def save_kv_layer(self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any) -> None:
        """Do nothing: nothing leaves the engine."""

    def wait_for_save(self) -> None:
        """Do nothing: nothing leaves the engine."""


def _key(request: Request) -> Key:
    adapter_id = 0 if request.lora_request is None else request.lora_request.lora_int_id
    return adapter_id, tuple(request.prompt_token_ids or ())
