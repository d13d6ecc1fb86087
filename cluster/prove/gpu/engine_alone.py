"""Parts 4 and 5: the engine alone, its adapters and canary, its groups alone and in company, and prompt sharing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from floe.cluster.loop.adapter_broadcast import MIN_EFFECT_TO_NOISE, MIN_NOISE, PROBE_VERSION
from floe.cluster.messages import AdapterManifest
from floe.cluster.prove.gpu.engine_under_proof import (
    Demo,
    Differences,
    EngineDescription,
    ask,
    describe,
    engine,
    smoke_config,
)
from floe.cluster.prove.gpu.findings import Figures, Line, Setting, at_least, at_most, holds, told
from floe.cluster.prove.gpu.tiny_policy import on_device
from floe.cluster.ray_actors.placement import put_blob, ray_session
from floe.cluster.ray_actors.rollout_pool import RolloutPool
from floe.configs.schema import RunConfig
from floe.learner.adapter.export import AdapterExport
from floe.learner.policy.policy import adapter_tensors, build_policy, probe_tensors, text_logprobs

ADAPTER_SCALE = 0.1  # scale of the probe's weights
ADAPTER_VERSION = 1
MAX_CANARY_TOKENS = 96
MAX_MEAN_NATS = {"cpu": 0.0, "cuda": 0.02}  # on a GPU the sums of one batch have another order than those of another
NAMESPACE = "prove-gpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnersSide:
    """The learner's export, and its log-probabilities of the canary."""

    base: list[float]
    adapter: list[float]
    manifest: AdapterManifest
    probe: AdapterManifest


def prove_engine(setting: Setting) -> Iterator[Line | Figures]:
    config = smoke_config(setting)
    demo = Demo.of(config, 3 if setting.is_quick else 8, 8 if setting.is_quick else 16)
    with ray_session(config.cluster, NAMESPACE), engine(config, demo.model_dir) as (pool, handle):
        yield from _described(ask(handle, describe))
        groups = list(pool.generate(demo.requests, None))
        text = (groups[0].prompt_token_ids + groups[0].completions[0].token_ids)[-MAX_CANARY_TOKENS:]
        yield from _canary(pool, text, learners_side(config, demo.model_dir, setting.device, text))
        together = list(pool.generate(demo.requests, ADAPTER_VERSION))
        alone = [group for one in demo.requests for group in pool.generate([one], ADAPTER_VERSION)]
    found = Differences.between(alone, together)
    limit = MAX_MEAN_NATS[setting.device]
    yield told("each group alone and in company", found.shown)
    yield at_most("the same, log-probabilities on average", found.mean_nats, limit, " nats")
    if setting.device == "cpu":
        yield at_least("the same, tokens that are equal", found.num_common, found.num_tokens)


def _described(found: EngineDescription) -> Iterator[Line | Figures]:
    yield told("model runner", found.runner)
    yield told("scheduler", f"{found.scheduler}, {found.num_batches_in_flight} batches in flight")
    layout = f"{found.kv_layout}, a layer {found.kv_shape} with strides {found.kv_stride}"
    yield told("KV cache", f"{layout}, {found.num_kv_blocks:,} blocks of {found.kv_block_tokens} tokens")
    if found.cuda_graphs_bytes:
        yield told("CUDA graphs", f"{found.cuda_graphs_bytes / 2**30:.2f} GiB")
        yield Figures(values={"cuda_graphs_bytes": found.cuda_graphs_bytes})


def learners_side(config: RunConfig, model_dir: Path, device: str, text: Sequence[int]) -> LearnersSide:
    """Compute it in this process, with an adapter of random weights."""
    torch.manual_seed(0)
    options: Any = {"dropout": 0.0, "seed": 0, "with_reference": False}
    fresh = adapter_tensors(build_policy(model_dir, config.model, config.lora, initial=None, **options))
    random = probe_tensors(fresh)
    initial = {name: ADAPTER_SCALE * tensor for name, tensor in random.items()}
    policy = build_policy(model_dir, config.model, config.lora, initial=initial, **options)
    policy = on_device(policy, torch.device(device), getattr(torch, config.model.dtype))
    tensors = adapter_tensors(policy)
    export = AdapterExport(config.lora, config.rollout.dtype, tensors)
    with torch.no_grad():
        adapter = text_logprobs(policy, text)
        with policy.disable_adapter():
            base = text_logprobs(policy, text)
    return LearnersSide(
        base=base,
        adapter=adapter,
        manifest=export(tensors, ADAPTER_VERSION, put_blob),
        probe=export(probe_tensors(tensors), PROBE_VERSION, put_blob),
    )


def _canary(pool: RolloutPool, text: Sequence[int], learner: LearnersSide) -> Iterator[Line]:
    """Measure as a run does at its start: an adapter's effect must exceed the noise of two computations."""
    (base,) = pool.canary_logprobs(text, None)
    noise = _distance(base, learner.base)
    pool.install(learner.probe)
    (probed,) = pool.canary_logprobs(text, PROBE_VERSION)
    effect = _distance(probed, base)
    (receipt,) = pool.install(learner.manifest)
    (adapted,) = pool.canary_logprobs(text, ADAPTER_VERSION)
    yield told("canary, base: engine and learner", f"{noise:.3g} nats apart")
    least = MIN_EFFECT_TO_NOISE * max(noise, MIN_NOISE)
    yield at_least("canary, probe adapter: engine with and without it", effect, least, " nats")
    limit = math.sqrt(max(noise, MIN_NOISE) * effect)
    yield at_most("canary, adapter: engine and learner", _distance(adapted, learner.adapter), limit, " nats")
    same = receipt.digest == learner.manifest.slots_digest
    yield holds("digest of the adapter's slots", same, receipt.digest[:12], learner.manifest.slots_digest[:12])


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    return fmean(abs(x - y) for x, y in zip(one, other, strict=True))


def prove_sharing(setting: Setting) -> Iterator[Line]:
    """Generate for the same requests with prompt sharing and without, each group alone."""
    config = smoke_config(setting)
    demo = Demo.of(config, 2 if setting.is_quick else 8, 8 if setting.is_quick else 16)
    groups, is_on = {}, []
    with ray_session(config.cluster, NAMESPACE):
        for shares in (True, False):
            with engine(config, demo.model_dir, shares) as (pool, handle):
                is_on.append(ask(handle, describe).shares_prompts)
                groups[shares] = [group for one in demo.requests for group in pool.generate([one], None)]
    num_computed = sum(group.num_computed_prompt_tokens or 0 for group in groups[True])
    # A group's prompt up to the last token but one is computed once, and that last token by every candidate.
    least = sum(len(one.prompt_token_ids) + one.num_samples - 1 for one in demo.requests)
    shown = ["on" if one else "off" for one in is_on]
    yield holds("prompt sharing of the two engines", shown == ["on", "off"], " and ".join(shown), "on and off")
    yield at_most("tokens of prompts that were computed with it", num_computed, least)
    found = Differences.between(groups[True], groups[False])
    yield told("the same requests without it", found.shown)
    yield at_most("the same, log-probabilities on average", found.mean_nats, MAX_MEAN_NATS[setting.device], " nats")
