"""Shell around the engine in its own process: an adapter goes in, finished groups come out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from floe.actors.prompting.styles import style_of
from floe.cluster.messages import AdapterManifest, AdapterReceipt, GroupRequest, RolloutGroup
from floe.configs.quick_imports import without_collections
from floe.configs.schema import RunConfig
from floe.configs.sections.colocation import TAKE_TURNS


class RolloutActor:
    """Holds one engine. Imports vLLM when it is constructed, in the process that will use it."""

    def __init__(self, config: RunConfig, model_dir: Path, kv_cache_bytes: int | None = None) -> None:
        """Start the engine. `kv_cache_bytes` is its KV cache on a GPU; None: the engine takes what its share leaves."""
        with without_collections():
            import torch

            from floe.actors.engine.vllm_engine import VllmEngine

        if config.rollout.num_threads:
            torch.set_num_threads(config.rollout.num_threads)
        stop = tuple(style_of(config.prompt, config.run.plugin_folder).stop_texts)
        self._sleeps = config.cluster.colocation in TAKE_TURNS
        self._engine = VllmEngine(
            model_dir,
            config.model,
            config.rollout,
            config.lora,
            stop,
            can_sleep=self._sleeps,
            kv_cache_bytes=kv_cache_bytes,
            plugin_folder=config.run.plugin_folder,
        )

    def ping(self) -> bool:
        return True

    def install(self, manifest: AdapterManifest, blob: np.ndarray) -> AdapterReceipt:
        """Install `blob`, which is the manifest's reference resolved: a read-only uint8 view of the object store."""
        return self._engine.install(manifest, blob.data)

    def release(self) -> None:
        """Give up what the engine can; no request comes until `acquire`."""
        if self._sleeps:
            self._engine.sleep()

    def acquire(self) -> list[AdapterReceipt]:
        """Take the device back; return what the engine holds of each installed version, where it was away."""
        return self._engine.wake_up() if self._sleeps else []

    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterator[RolloutGroup]:
        yield from self._engine.generate(requests, adapter_version)

    def canary_group(self, request: GroupRequest, adapter_version: int | None) -> RolloutGroup:
        """Generate one group, for when nothing else is being generated."""
        return next(self._engine.generate([request], adapter_version))

    def canary_logprobs(self, token_ids: Sequence[int], adapter_version: int | None) -> list[float]:
        return self._engine.canary_logprobs(token_ids, adapter_version)
