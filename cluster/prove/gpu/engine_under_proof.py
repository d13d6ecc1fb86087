"""A rollout engine in its actor, as a run starts it, and the questions that it can be asked there."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.question_sets import load_question_sets
from floe.actors.rollout_actor import RolloutActor
from floe.cluster.messages import GroupRequest, RolloutGroup
from floe.cluster.models.model_folder import model_folder
from floe.cluster.prove.gpu.findings import Setting
from floe.cluster.ray_actors.placement import engine_environment
from floe.cluster.ray_actors.rollout_pool import RolloutPool
from floe.configs.errors import LostError
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig

SMOKE = Path(__file__).parents[3] / "configs" / "smoke.yaml"
GPU_START_S = 560.0  # a first start compiles and captures for minutes
GPU_SHARE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDescription:
    """Settings that vLLM has chosen itself, and what it holds."""

    runner: str
    scheduler: str
    num_batches_in_flight: int
    shares_prompts: bool
    kv_layout: str
    kv_shape: tuple[int, ...]  # of one layer
    kv_stride: tuple[int, ...]
    num_kv_blocks: int
    kv_block_tokens: int
    cuda_graphs_bytes: int  # vLLM's own estimate, from graphs that it captures for it; 0 where it makes none


class EngineUnderProof(RolloutActor):
    """The run's own actor, whose engine can be started without prompt sharing."""

    def __init__(self, config: RunConfig, model_dir: Path, shares_prompts: bool) -> None:
        if not shares_prompts:
            _know_no_version()
        super().__init__(config, model_dir)


def _know_no_version() -> None:
    """Make prompt sharing know no version of vLLM in this process, so that the engine uses its prefix cache alone."""
    from floe.actors.engine import vllm_prompt_sharing

    vllm_prompt_sharing.KNOWN_VERSIONS = ()  # type: ignore[assignment]
    for module in [one for name, one in sys.modules.items() if name.startswith("floe.actors.engine.vllm_engine")]:
        vars(module)["VERSIONS_OF_PROMPT_SHARING"] = ()  # where it is imported already


def smoke_overrides(setting: Setting) -> list[str]:
    """Return overrides that adapt the smoke configuration to the device, for an engine with a whole card."""
    of_device = ["model.dtype=float32", "rollout.dtype=float32"]
    if setting.device == "cuda":
        of_device = [
            "model.dtype=bfloat16",
            "rollout.dtype=bfloat16",
            "rollout.num_gpus=1",
            f"rollout.gpu_memory_share={GPU_SHARE}",
            f"cluster.start_timeout_s={GPU_START_S}",
        ]
    return [f"run.home={json.dumps(str(setting.home_dir))}", "cluster.address=local", *of_device]


def smoke_config(setting: Setting, *overrides: str) -> RunConfig:
    return load_config(SMOKE, [*smoke_overrides(setting), *overrides])


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """The tiny model, and requests for the demo's questions."""

    model_dir: Path
    requests: tuple[GroupRequest, ...]

    @classmethod
    def of(cls, config: RunConfig, num_requests: int, num_samples: int) -> Demo:
        demo_dir = config.run.home_dir / "demo"
        sets = load_question_sets(config.data, demo_dir)
        model_dir = model_folder(config, demo_dir)
        encoder = PromptEncoder(model_dir, sets.databases_dir, config.prompt)
        requests = tuple(
            GroupRequest(
                group_id=str(number),
                question=question,
                prompt_token_ids=encoder.prompt(question),
                num_samples=num_samples,
                temperature=1.0,
                max_new_tokens=config.rollout.max_new_tokens,
                seed=1000 * number,
            )
            for number, question in enumerate(sets.tune[:num_requests])
        )
        return cls(model_dir=model_dir, requests=requests)


@contextmanager
def engine(config: RunConfig, model_dir: Path, shares_prompts: bool = True) -> Iterator[tuple[RolloutPool, Any]]:
    """Start an engine, and end it. Yields its pool and its actor."""
    handle = (
        ray.remote(EngineUnderProof)
        .options(
            num_cpus=config.rollout.num_cpus,
            num_gpus=config.rollout.num_gpus,
            runtime_env={"env_vars": engine_environment(config)},
        )
        .remote(config, model_dir, shares_prompts)
    )
    ray.get(handle.ping.remote(), timeout=config.cluster.start_timeout_s)
    pool = RolloutPool([handle], config.rollout.stuck_after_s, _no_successor, config.rollout.num_live_adapters)
    try:
        yield pool, handle
    finally:
        ray.kill(handle)


def _no_successor(number: int, num_before: int) -> Any:
    raise LostError("the engine under proof died")


def ask(handle: Any, question: Any, *arguments: Any) -> Any:
    """Return the answer of a function that is called with the actor, in its process."""
    return ray.get(handle.__ray_call__.remote(question, *arguments))


def describe(actor: RolloutActor) -> EngineDescription:
    llm = actor._engine._engine
    core: Any = llm.engine_core
    core = core.engine_core
    (told,) = llm.collective_rpc(_of_worker)
    return EngineDescription(
        scheduler=type(core.scheduler).__name__,
        num_batches_in_flight=core.batch_queue_size,
        shares_prompts=core.scheduler.connector is not None,
        **told,
    )


def _of_worker(worker: Any) -> dict[str, Any]:
    runner, cache = worker.model_runner, worker.vllm_config.cache_config
    kv_cache = runner.kv_caches[0]
    return {
        "runner": f"{type(runner).__module__}.{type(runner).__name__}",
        "kv_layout": str(cache.kv_cache_layout),
        "kv_shape": tuple(kv_cache.shape),
        "kv_stride": tuple(kv_cache.stride()),
        "num_kv_blocks": cache.num_gpu_blocks,
        "kv_block_tokens": cache.block_size,
        "cuda_graphs_bytes": int(getattr(worker, "cudagraph_memory_estimate", 0)),
    }


def resident_bytes(_: RolloutActor) -> int:
    """Return the memory of the actor's process on the host."""
    return psutil.Process().memory_info().rss


def free_device_bytes(_: RolloutActor) -> int:
    """Return what CUDA has free on the engine's card."""
    import torch

    return torch.cuda.mem_get_info()[0]


def set_stop(actor: RolloutActor, texts: Sequence[str]) -> None:
    actor._engine._stop = list(texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """Differences between two answers to the same requests, over the tokens up to a completion's first other token."""

    num_tokens: int
    num_common: int
    mean_nats: float  # of a token's log-probability
    max_nats: float

    @property
    def shown(self) -> str:
        return (
            f"{self.num_common:,} of {self.num_tokens:,} tokens before the first other one, "
            f"log-probabilities {self.mean_nats:.2g} nats apart on average, {self.max_nats:.2g} at most"
        )

    @classmethod
    def between(cls, ones: Sequence[RolloutGroup], others: Sequence[RolloutGroup]) -> Differences:
        """Compare two answers; groups are told apart by their seeds."""
        by_seed = {group.seed: group for group in others}
        distances: list[float] = []
        num_tokens = 0
        for group in ones:
            for one, other in zip(group.completions, by_seed[group.seed].completions, strict=True):
                num_tokens += len(one.token_ids)
                pairs = zip(one.token_ids, other.token_ids, strict=False)
                same = next((place for place, (x, y) in enumerate(pairs) if x != y), None)
                same = min(len(one.token_ids), len(other.token_ids)) if same is None else same
                distances += [abs(x - y) for x, y in zip(one.logprobs[:same], other.logprobs[:same], strict=True)]
        return cls(
            num_tokens=num_tokens,
            num_common=len(distances),
            mean_nats=sum(distances) / max(1, len(distances)),
            max_nats=max(distances, default=0.0),
        )
