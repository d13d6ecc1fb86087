"""The ways of generating that the rollout bench compares; each is an actor, and they are asked in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import ray

from floe.cluster.bench.learner.learner_cases import Case
from floe.cluster.environment import instruction_set_masks
from floe.cluster.messages import AdapterManifest, GroupRequest, Question
from floe.cluster.ray_actors.placement import engine_environment, start_rollout_pool
from floe.cluster.ray_actors.rollout_pool import RolloutPool
from floe.configs.schema import RunConfig

NUM_QUESTIONS = 8
GROUP_SIZE = 16
PROMPT_TOKENS = (250, 450)  # of Spider's schemas in the compact style, mostly
COMPLETION_TOKENS = 48
FIRST_TOKEN = 100  # below are special tokens, which could end a completion

Generate = Callable[[Sequence[GroupRequest]], int]  # returns the number of generated tokens


def bench_requests(vocabulary: int, round_number: int, shapes: Sequence[Case] = ()) -> list[GroupRequest]:
    """Return groups over prompts of random tokens, no two rounds with the same; with `shapes`, one after the other."""
    rng = Random(round_number)
    requests = []
    for number in range(NUM_QUESTIONS):
        name = f"{round_number}-{number}"
        shape = shapes[number % len(shapes)] if shapes else None
        length = rng.randint(*PROMPT_TOKENS) if shape is None else shape.prompt_tokens
        requests.append(
            GroupRequest(
                group_id=name,
                question=Question(question_id=name, database_id="bench", text="", gold_sql=("SELECT 1",)),
                prompt_token_ids=tuple(rng.randrange(FIRST_TOKEN, vocabulary) for _ in range(length)),
                num_samples=GROUP_SIZE if shape is None else shape.group_size,
                temperature=1.0,
                max_new_tokens=COMPLETION_TOKENS if shape is None else shape.completion_tokens,
                seed=rng.getrandbits(32),
            )
        )
    return requests


def streaming(pool: RolloutPool, version: int | None) -> Generate:
    def generate(requests: Sequence[GroupRequest]) -> int:
        groups = pool.generate(requests, version)
        return sum(len(completion.token_ids) for group in groups for completion in group.completions)

    return generate


def offline(config: RunConfig, model_dir: Path, adapter_dir: Path, *, stock_lora: bool) -> Generate:
    from floe.actors.engine.vllm_offline import OfflineLlm

    actor = start_way(OfflineLlm, config, config, model_dir, stock_lora, bool(instruction_set_masks()))
    return lambda requests: ray.get(actor.num_generated_tokens.remote(list(requests), adapter_dir))


def transformers_generate(config: RunConfig, model_dir: Path, adapter_dir: Path) -> Generate:
    from floe.cluster.bench.learner.transformers_way import TransformersGenerate

    actor = start_way(TransformersGenerate, config, model_dir, adapter_dir, config.rollout.dtype)
    return lambda requests: ray.get(actor.num_generated_tokens.remote(list(requests)))


def start_engine(config: RunConfig, model_dir: Path, manifest: AdapterManifest) -> RolloutPool:
    pool = start_rollout_pool(config, model_dir)
    pool.install(manifest)
    return pool


def start_way(role: type, config: RunConfig, *arguments: Any) -> Any:
    environment = engine_environment(config)
    if not instruction_set_masks():
        del environment["ONEDNN_MAX_CPU_ISA"]  # a yardstick may use all cores of the processor
    actor: Any = ray.remote(role).options(num_cpus=0, runtime_env={"env_vars": environment})
    handle = actor.remote(*arguments)
    ray.get(handle.ping.remote(), timeout=config.start_limit_s)
    return handle
