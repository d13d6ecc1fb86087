"""`floe bench sync`: an adapter's way from the learner to n receivers, against a memory copy and a disk folder."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import ray
import torch
from transformers import AutoConfig

from floe.actors.engine.slot_receiver import SlotReceiver
from floe.cluster.bench.targets import Target, targets_table
from floe.cluster.machine.cores import num_cores
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.messages import AdapterManifest
from floe.cluster.models.model_folder import model_folder
from floe.cluster.precision.resolved import with_precision
from floe.cluster.preflight.sample_adapter import random_adapter
from floe.cluster.ray_actors.placement import put_blob, ray_session
from floe.cluster.terminal.progress import Progress, make_console
from floe.configs.schema import RunConfig
from floe.learner.adapter.export import AdapterExport, to_blob
from floe.learner.adapter.files import write_adapter

NUM_RECEIVERS = (1, 2, 4, 8)
NUM_ROUNDS = 9
EIGHT_BYTES = np.zeros(8, dtype=np.uint8)
# Of Qwen2.5-Coder-3B: 29,933,568 parameters at rank 16 on all seven projections.
QWEN_3B = {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncTimes:
    """Medians over the rounds, in milliseconds; those of receivers are CPU time of one."""

    shape: str
    num_bytes: int
    num_receivers: int
    copy_ms: float  # of the same bytes, in memory
    export_ms: float  # serialising and both digests
    put_ms: float
    get_ms: float
    check_ms: float
    install_ms: float
    digest_ms: float
    whole_ms: float  # wall time from the weights to the last receiver's proof
    receivers_wall_ms: float  # from the put to the last receiver's proof
    folder_ms: float  # wall time of the way through a folder on disk
    ray_put_ms: float  # put and get of eight bytes: no adapter can be faster
    ray_calls_ms: float  # a call of every receiver without work


def bench_sync(config: RunConfig, as_json: bool) -> None:
    """Print the table, or JSON; progress goes to stderr."""
    rows = measured_sync(config, NUM_ROUNDS)
    targets = targets_of(rows)
    if as_json:
        print(json.dumps({"times": [asdict(row) for row in rows], "targets": [one.record() for one in targets]}))
    else:
        _render(rows, targets)


def measured_sync(config: RunConfig, num_rounds: int) -> list[SyncTimes]:
    """Measure each shape with each number of receivers; progress goes to stderr."""
    progress = Progress(make_console(stderr=True))
    config = with_precision(config, lambda: shape_of(config)).config
    with (
        TemporaryDirectory(prefix="floe-bench-") as folder,
        redirect_stdout(sys.stderr),
        ray_session(config.cluster, "floe-bench"),
    ):
        small = AutoConfig.from_pretrained(model_folder(config, config.run.home_dir / "demo"))
        shapes = {"SmolLM2-135M": small, "Qwen2.5-Coder-3B": AutoConfig.for_model("qwen2", **QWEN_3B)}
        rows = []
        for shape, model in shapes.items():
            tensors = random_adapter(model, config.lora)
            for num_receivers in NUM_RECEIVERS:
                progress.phase(f"{shape}, {num_receivers} receivers")
                rows.append(_measure(config, shape, tensors, num_receivers, Path(folder), num_rounds))
    return rows


def _measure(
    config: RunConfig,
    shape: str,
    tensors: dict[str, torch.Tensor],
    num_receivers: int,
    folder: Path,
    num_rounds: int,
) -> SyncTimes:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    receivers: list[Any] = [
        ray.remote(SlotReceiver).options(num_cpus=0).remote(shapes, config.rollout.dtype) for _ in range(num_receivers)
    ]
    ray.get([one.ping.remote() for one in receivers], timeout=config.start_limit_s)
    export = AdapterExport(config.lora, config.rollout.dtype, tensors)
    rounds = [_round(config, tensors, receivers, folder, version, export) for version in range(num_rounds + 1)][1:]
    for one in receivers:
        ray.kill(one)
    medians = {name: 1000 * statistics.median(each[name] for each in rounds) for name in rounds[0]}
    num_bytes = len(to_blob(tensors))
    return SyncTimes(shape=shape, num_bytes=num_bytes, num_receivers=num_receivers, **medians)


def _round(
    config: RunConfig,
    tensors: dict[str, torch.Tensor],
    receivers: Sequence[Any],
    folder: Path,
    version: int,
    export: AdapterExport,
) -> dict[str, float]:
    put_s = 0.0

    def timed_put(blob: np.ndarray) -> list[Any]:
        nonlocal put_s
        reference: list[Any]
        put_s, reference = _timed(lambda: put_blob(blob))
        return reference

    blob = np.frombuffer(to_blob(tensors), dtype=np.uint8)
    target = np.zeros_like(blob)
    copy_s, _ = _timed(lambda: np.copyto(target, blob))
    export_s, manifest = _timed(lambda: export(tensors, version, timed_put))
    reference = manifest.blob_ref[0]
    get_s, _ = _timed(lambda: ray.get(reference))
    sent = replace(manifest, blob_ref=None)
    wall_s, parts = _timed(lambda: ray.get([one.install.remote(sent, reference) for one in receivers]))
    folder_s, _ = _timed(lambda: _by_folder(config, tensors, receivers, folder / f"v{version}", sent))
    ray_put_s, _ = _timed(lambda: ray.get(put_blob(EIGHT_BYTES)))
    ray_calls_s, _ = _timed(lambda: ray.get([one.ping.remote() for one in receivers]))
    means = {name: statistics.fmean(part[name] for part in parts) for name in parts[0]}
    return {
        "copy_ms": copy_s,
        "export_ms": export_s - put_s,
        "put_ms": put_s,
        "get_ms": get_s,
        "check_ms": means["check_s"],
        "install_ms": means["install_s"],
        "digest_ms": means["digest_s"],
        "whole_ms": export_s + wall_s,
        "receivers_wall_ms": wall_s,
        "folder_ms": folder_s,
        "ray_put_ms": ray_put_s,
        "ray_calls_ms": ray_calls_s,
    }


def _by_folder(
    config: RunConfig,
    tensors: dict[str, torch.Tensor],
    receivers: Sequence[Any],
    folder: Path,
    manifest: AdapterManifest,
) -> None:
    write_adapter(folder, to_blob(tensors), config.lora, folder)
    ray.get([one.install_from.remote(manifest, folder) for one in receivers])


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started_s = time.perf_counter()
    result = call()
    return time.perf_counter() - started_s, result


def targets_of(rows: Sequence[SyncTimes]) -> list[Target]:
    """Return each as a ratio of what is allowed to what was measured, so that 1 reaches the target."""
    targets = []
    for shape in dict.fromkeys(row.shape for row in rows):
        one, *more = [row for row in rows if row.shape == shape]
        put_and_get_ms = one.put_ms + one.get_ms
        cpu_ms = one.check_ms + one.install_ms + one.digest_ms
        ratios = {
            "2 copies / (put + get)": 2 * one.copy_ms / put_and_get_ms,
            "10 copies / the whole way": 10 * one.copy_ms / one.whole_ms,
        }
        for row in more:
            name = f"1.2 x CPU time of {row.num_receivers} receivers / wall time"
            ratios[name] = 1.2 * row.num_receivers * cpu_ms / num_cores() / row.receivers_wall_ms
        targets += [Target(name=f"{shape}: {name}", ratio=ratio, at_least=1) for name, ratio in ratios.items()]
        by_folder = one.folder_ms / one.whole_ms
        targets.append(Target(name=f"{shape}: folder / object store", ratio=by_folder, at_least=None))
    return targets


def _render(rows: Sequence[SyncTimes], targets: Sequence[Target]) -> None:
    from rich import box
    from rich.table import Table

    console = make_console()
    parts = ("copy", "export", "put", "get", "check", "install", "digest", "whole", "folder", "ray_put", "ray_calls")
    heads = (part.replace("_", " ") for part in parts)
    table = Table("ms", *heads, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for row in rows:
        values = (f"{getattr(row, f'{part}_ms'):.1f}" for part in parts)
        table.add_row(f"{row.num_bytes / 1e6:.1f} MB to {row.num_receivers}", *values)
    console.print(table)
    console.print(targets_table("ratio of allowed to measured", targets))
