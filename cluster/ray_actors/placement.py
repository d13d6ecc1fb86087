"""Ray: joins or starts a cluster, and starts the roles' processes on it, each with its own name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray

from floe.cluster.environment import instruction_set_masks
from floe.cluster.loop.stop_request import own_signals
from floe.cluster.machine.cores import num_cores
from floe.cluster.machine.free_memory import check_free_memory, free_memory_bytes
from floe.cluster.machine.ray_address import check_answers, cluster_address, passed_over
from floe.cluster.machine.vllm_build import check_engine
from floe.cluster.messages import AdapterManifest, LearnerRank
from floe.cluster.preparation.clock import decided_reward
from floe.cluster.ray_actors.actor_start import await_start, starting
from floe.cluster.ray_actors.learner_handle import LearnerHandle, SupervisedHandle, wait_for_all
from floe.cluster.ray_actors.own_ray import start_own_ray
from floe.cluster.ray_actors.pair_bundles import bundle_of, check_bundles, places_of
from floe.cluster.ray_actors.reward_pool import RewardPool
from floe.cluster.ray_actors.rollout_pool import RolloutPool
from floe.cluster.ray_actors.worker_path import job_config
from floe.configs.errors import UserError
from floe.configs.schema import ClusterSection, RunConfig

_pools: list[RewardPool] = []  # those of the present session, whose threads end with it


@contextmanager
def ray_session(cluster: ClusterSection, namespace: str) -> Iterator[str]:
    """Join the running cluster, or start an own local Ray and stop only that one. Yields a line that says which."""
    check_free_memory(cluster.min_free_memory_gib, free_memory_bytes())
    with own_signals():
        line = _connect(cluster, namespace)
    try:
        yield line
    finally:
        while _pools:
            _pools.pop().leave()
        ray.shutdown()


def _connect(cluster: ClusterSection, namespace: str) -> str:
    shared: dict[str, Any] = {
        "namespace": namespace,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "job_config": job_config(),
    }
    address = cluster_address(cluster)
    if address is not None:
        check_answers(address)
        try:
            ray.init(address=address, **shared)
            return f"joined the Ray cluster at {ray.get_runtime_context().gcs_address}"
        except ConnectionError as fault:
            raise UserError(
                f"No Ray cluster answers at {address} ({fault}): start one with 'ray start --head', "
                "or set cluster.address=local."
            ) from fault
    return start_own_ray(cluster, shared) + passed_over(cluster)


def check_resources(config: RunConfig) -> None:
    """Raise UserError naming the resource that the cluster lacks, instead of waiting for it for ever."""
    check_engine(config.rollout.num_gpus)
    found = ray.cluster_resources()
    for name, amount in needed_resources(config).items():
        if found.get(name, 0.0) < amount:
            raise UserError(
                f"The run needs {amount:g} Ray {name}s, the cluster has {found.get(name, 0.0):g}: "
                "lower num_actors, num_workers, num_cpus or num_gpus of rollout, reward and learner, or add a node."
            )
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for role, asked in _asked_by_role(config).items():
        if not any(all(node.get(name, 0.0) >= amount for name, amount in asked.items()) for node in nodes):
            asks = " and ".join(f"{amount:g} {name}" for name, amount in asked.items() if amount > 0)
            raise UserError(
                f"A {role} needs {asks} on one node, and none of the cluster's {len(nodes)} nodes has as much: "
                f"lower {role}.num_cpus or {role}.num_gpus, or add a larger node."
            )
    check_bundles(config, nodes)


def needed_resources(config: RunConfig) -> dict[str, float]:
    """Return the Ray resources of all actors of a run."""
    counts = {
        "rollout": config.rollout.num_actors,
        "reward": config.reward.num_workers,
        "learner": config.learner.num_ranks,
    }
    asked = _asked_by_role(config)
    if config.num_pairs:
        counts = {"pair": config.num_pairs, "reward": config.reward.num_workers}
        asked["pair"] = bundle_of(config)
    return {name: sum(counts[role] * asked[role].get(name, 0.0) for role in counts) for name in ("CPU", "GPU")}


def _asked_by_role(config: RunConfig) -> dict[str, dict[str, float]]:
    """Return the Ray resources of one actor of each role."""
    return {
        "rollout": {"CPU": config.rollout.num_cpus, "GPU": config.rollout.num_gpus},
        "reward": {"CPU": config.reward.num_cpus},
        "learner": {"CPU": config.learner.num_cpus, "GPU": config.learner.num_gpus},
    }


def start_rollout_pool(
    config: RunConfig,
    model_dir: Path,
    name: str = "rollout",
    *,
    kv_cache_bytes: int | None = None,
    await_device: Callable[[], None] | None = None,
) -> RolloutPool:
    """Start one engine per actor, ready to install adapters. Raises UserError when one can't start.

    `kv_cache_bytes` is what the memory plan leaves for the KV cache, where the engine is not to measure that itself.
    `await_device` returns when the other user of the device has stopped: a successor's start waits for it.
    """
    from floe.actors.rollout_actor import RolloutActor

    environment = engine_environment(config)
    asked = _asked_by_role(config)["rollout"]
    place_of = places_of(config, config.rollout.num_actors)

    def create(number: int, num_before: int) -> Any:
        """Start an actor; a successor's name has the number of losses, because its predecessor's may still be taken."""
        options = {"num_cpus": asked["CPU"], "num_gpus": asked["GPU"], **place_of(number)}
        full_name = f"{name}-{number}" + (f"-successor-{num_before}" if num_before else "")
        actor = ray.remote(RolloutActor).options(name=full_name, runtime_env={"env_vars": environment}, **options)
        return actor.remote(config, model_dir, kv_cache_bytes=kv_cache_bytes)

    def start_successor(number: int, num_before: int) -> Any:
        if await_device is not None:
            await_device()
        handle = create(number, num_before)
        await_start([handle], f"successor of rollout actor {number}", asked, config.start_limit_s)
        return handle

    handles = [create(number, 0) for number in range(config.rollout.num_actors)]
    await_start(handles, "rollout actor", asked, config.start_limit_s)
    return RolloutPool(handles, config.rollout.stuck_after_s, start_successor, config.rollout.num_live_adapters)


def engine_environment(config: RunConfig) -> dict[str, str]:
    return _process_environment(config.rollout.num_threads or num_cores(), config.rollout.num_gpus) | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine lives in the actor: no processes beside Ray's
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_ATTN_SPLIT_KV": "0",  # otherwise few sequences would be summed up in another order than many
        # Its AMX kernels round a row by how many others there are; a cap that is set already is lower.
        "ONEDNN_MAX_CPU_ISA": instruction_set_masks().get("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16"),
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
    }


def start_reward_pool(config: RunConfig, databases_dir: Path, name: str = "reward") -> RewardPool:
    """Start workers that Ray restarts when they die."""
    from floe.reward_service.judge.judge_protocol import longest_s
    from floe.reward_service.scorer import Scorer

    reward = decided_reward(config.reward)  # one clock for all of them and their successors
    handles = [
        ray.remote(Scorer)
        .options(
            name=f"{name}-{index}",
            num_cpus=reward.num_cpus,
            max_restarts=-1,  # the pool scores the lost group again
            runtime_env={"env_vars": _process_environment(1, num_gpus=0)},
        )
        .remote(databases_dir, reward, plugin_folder=config.run.plugin_folder, prompt=config.prompt)
        for index in range(reward.num_workers)
    ]
    await_start(handles, "reward worker", _asked_by_role(config)["reward"], config.start_limit_s)
    judging_limit_s, restart_limit_s = partial(longest_s, reward), config.start_limit_s
    pool = RewardPool(handles, reward.stuck_after_s, reward.time_limit_s, judging_limit_s, restart_limit_s)
    _pools.append(pool)
    return pool


def start_learner(config: RunConfig, model_dir: Path, initial_adapter: Path | None) -> LearnerHandle:
    """Start the GRPO learner, with its ranks joined. Raises UserError when it can't start."""
    from floe.learner.learner_actor import LearnerActor

    ranks = _start_ranks(LearnerActor, "learner", config, model_dir, initial_adapter, put_blob)
    return LearnerHandle(ranks, config.cluster.step_timeout_s)


def start_supervised_learner(
    config: RunConfig, model_dir: Path, initial_adapter: Path | None = None
) -> SupervisedHandle:
    from floe.learner.learner_actor import WarmStartActor

    ranks = _start_ranks(WarmStartActor, "warm-start", config, model_dir, initial_adapter)
    return SupervisedHandle(ranks, config.cluster.step_timeout_s)


def stored_adapter(config: RunConfig, folder: Path) -> AdapterManifest:
    """Put a PEFT folder's adapter into the object store, as version 0. Raises UserError when it can't be served."""
    from floe.learner.adapter.export import export_blob
    from floe.learner.adapter.files import read_adapter

    return export_blob(read_adapter(folder, config.lora), config.lora, 0, put_blob, config.rollout.dtype)


def put_blob(blob: np.ndarray) -> list[Any]:
    """Store it with one `ray.put`; the reference is sent inside a list, so that nothing on the way resolves it."""
    return [ray.put(blob)]


def fetch_blob(reference: list[Any]) -> np.ndarray:
    """Return what `put_blob` stored, read-only."""
    blob: np.ndarray = ray.get(reference[0])
    return blob


def has_spare_cores(config: RunConfig) -> bool:
    """Return whether engines and learner can compute at the same time without taking cores from each other.

    The cores of the whole cluster are counted. With GPUs cores are not what is scarce, and the answer is yes.
    """
    if config.rollout.num_gpus > 0 or config.learner.num_gpus > 0:
        return True
    engines = config.rollout.num_actors * (config.rollout.num_threads or num_cores())
    ranks = config.learner.num_ranks * (config.learner.num_threads or max(1, num_cores() // config.learner.num_ranks))
    has_spare: bool = engines + ranks <= ray.cluster_resources().get("CPU", 0.0)
    return has_spare


def node_address() -> str:
    """Return the address of this process's node."""
    address: str = ray.util.get_node_ip_address()
    return address


def _start_ranks(role: type[Any], name: str, config: RunConfig, *args: Any) -> list[Any]:
    num_ranks = config.learner.num_ranks
    threads = config.learner.num_threads or max(1, num_cores() // num_ranks)
    environment, place_of = _process_environment(threads, config.learner.num_gpus), places_of(config, num_ranks)
    handles: list[Any] = [
        ray.remote(role)
        .options(
            name=name if num_ranks == 1 else f"{name}-{index}",
            num_cpus=config.learner.num_cpus,
            num_gpus=config.learner.num_gpus,
            runtime_env={"env_vars": environment},
            **place_of(index),
        )
        .remote(config, *args)
        for index in range(num_ranks)
    ]
    with starting(handles, f"{name} rank", _asked_by_role(config)["learner"], config.start_limit_s) as wait:
        host, port = ray.get(handles[0].meeting_point.remote(node_address), timeout=wait.left_s)
        places = [LearnerRank(index=i, count=num_ranks, host=host, port=port) for i in range(num_ranks)]
        joined = [handle.join.remote(place) for handle, place in zip(handles, places, strict=True)]
        wait_for_all(joined, wait.left_s)
    return handles


def _process_environment(num_threads: int, num_gpus: float) -> dict[str, str]:
    return {
        # Ray lets a process that asks for no GPU see every GPU of the node.
        **({} if num_gpus > 0 else {"CUDA_VISIBLE_DEVICES": ""}),
        # Ray would set it to floor(num_cpus), which is 1 for a fraction.
        "OMP_NUM_THREADS": str(num_threads),
        # Freed activations stay with the process: giving them back costs a page fault per 4 KiB at the next step.
        "MALLOC_TRIM_THRESHOLD_": "100000000000",
        "MALLOC_MMAP_THRESHOLD_": "33554432",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
