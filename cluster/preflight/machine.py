"""Checks of the machine: processor, threads, free memory, shared memory, disk."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from floe.cluster.machine.cores import num_allowed_cores, num_cores
from floe.cluster.machine.free_memory import check_free_memory, free_memory_bytes
from floe.cluster.machine.processor import processor_flags
from floe.cluster.preflight.finding import Finding, fault, ok, warning
from floe.cluster.ray_actors.own_ray import LOCAL_OBJECT_STORE_BYTES
from floe.configs.schema import RunConfig

SHARED_MEMORY = Path("/dev/shm")
MIN_SHARED_BYTES = 32 * 2**20  # below Docker's default of 64 MiB, with which a small run still works


def processor(config: RunConfig, architecture: str | None = None, flags: frozenset[str] | None = None) -> Finding:
    """Check the processor: vLLM's CPU engine needs AVX2 or AVX-512; bfloat16 is fast only with AVX-512 BF16 or AMX."""
    architecture = platform.machine() if architecture is None else architecture
    flags = processor_flags() if flags is None else flags
    if architecture not in ("x86_64", "AMD64"):
        return ok(f"{architecture}, whose vector instructions are not checked")
    if "avx2" not in flags:
        return fault("this processor has no AVX2, which vLLM's CPU engine needs", "use another machine, or a GPU")
    widest = "AVX-512" if "avx512f" in flags else "AVX2"
    fast = [name for name in ("avx512_bf16", "amx_bf16") if name in flags]
    if fast:
        return ok(f"{architecture} with {widest} and {', '.join(fast)}")
    what = f"{architecture} with {widest} and no bfloat16 instructions"
    asked = [name for name in ("model", "rollout") if getattr(config, name).dtype == "bfloat16"]
    if asked:
        remedy = f"set {' '.join(f'{name}.dtype=auto' for name in asked)}, which takes what is fast here"
        return warning(f"{what}, so the configured bfloat16 is emulated and many times slower", remedy)
    return ok(what)


def threads(config: RunConfig, num_allowed: float | None = None) -> Finding:
    """Check the threads: more than the cores that this process may use wait for each other in every parallel loop."""
    num_allowed = num_allowed_cores() if num_allowed is None else num_allowed
    asked = {"rollout": config.rollout.num_threads, "learner": config.learner.num_threads}
    fitting = max(1, int(num_allowed))
    too_many = {role: wanted for role, wanted in asked.items() if wanted > fitting}
    if too_many and config.rollout.num_gpus == 0:
        remedy = " ".join(f"{role}.num_threads={fitting}" for role in too_many)
        named = " and ".join(f"{role} takes {number} threads" for role, number in too_many.items())
        return warning(f"{named}, but this process may use {num_allowed:g} cores", f"set {remedy}")
    return ok(f"{num_cores()} cores, of which {num_allowed:g} may be used")


def memory(config: RunConfig, free_bytes: float | None = None) -> Finding:
    free_bytes = free_memory_bytes() if free_bytes is None else free_bytes
    needed_gib = needed_memory_gib(config)
    check_free_memory(needed_gib, free_bytes)
    return ok(f"{free_bytes / 2**30:.1f} GiB of memory are free, the run needs {needed_gib:g}")


def needed_memory_gib(config: RunConfig) -> float:
    """Return the GiB that must be free before a run starts."""
    return config.cluster.min_free_memory_gib


def shared_memory(free_bytes: int | None = None, *, folder: Path = SHARED_MEMORY) -> Finding:
    """Check shared memory, where Ray's object store, adapters as folders and the learner's ranks keep data."""
    if free_bytes is None:
        if not folder.is_dir():
            return warning(f"there is no {folder}, so Ray's object store lies on disk", "mount a tmpfs there")
        free_bytes = shutil.disk_usage(folder).free
    mib, wanted_mib = free_bytes / 2**20, LOCAL_OBJECT_STORE_BYTES // 2**20
    remedy = f"remove files from {folder}, or give a container more with --shm-size=2g"
    if free_bytes < MIN_SHARED_BYTES:
        return fault(f"{folder} has {mib:.0f} MiB left, too little for an adapter's way to the engine", remedy)
    if free_bytes < LOCAL_OBJECT_STORE_BYTES:
        return warning(
            f"{folder} has {mib:.0f} MiB left, Ray's object store takes {wanted_mib} MiB and would lie on disk", remedy
        )
    return ok(f"{folder} has {free_bytes / 2**30:.1f} GiB left, Ray's object store takes {wanted_mib / 1024:g}")


def disk(config: RunConfig, folder: Path, num_adapter_weights: int, free_bytes: int | None = None) -> Finding:
    """Check the file system of the run's folder, which may not exist yet."""
    place = next(one for one in (folder, *folder.parents) if one.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return fault(f"{place} can't be written", "choose another --run-dir or run.home, or change its permissions")
    free_bytes = shutil.disk_usage(place).free if free_bytes is None else free_bytes
    checkpoints_bytes = checkpoint_bytes(config, num_adapter_weights)
    whole_bytes = checkpoints_bytes + config.run.max_rollout_log_bytes
    left = f"{place} has {free_bytes / 2**30:.2f} GiB left"
    if free_bytes < checkpoints_bytes:
        return fault(
            f"{left}, checkpoints and adapters take {checkpoints_bytes / 2**30:.2f}",
            "make room, lower run.keep_checkpoints, or choose another --run-dir",
        )
    if free_bytes < whole_bytes:
        return warning(
            f"{left}, checkpoints, adapters and rollouts may take {whole_bytes / 2**30:.2f}",
            "make room, or lower run.max_rollout_log_bytes",
        )
    return ok(f"{left}, the run may take {whole_bytes / 2**30:.2f}")


def checkpoint_bytes(config: RunConfig, num_adapter_weights: int) -> int:
    """Return the bytes of all checkpoints, the one that is being written included, and of the adapters next to them.

    A checkpoint holds the adapter, the optimiser's float32 master and two moments, and every adapter version that later
    steps may ask for.
    """
    weight_bytes = 2 if config.model.dtype == "bfloat16" else 4
    of_one = num_adapter_weights * (3 * 4 + weight_bytes * (1 + config.rollout.num_live_adapters))
    num_checkpoints = config.run.keep_checkpoints + 1
    num_adapters = 3  # start, latest, and the one that is being written
    return num_checkpoints * of_one + num_adapters * weight_bytes * num_adapter_weights
