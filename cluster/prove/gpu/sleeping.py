"""Part 6: an engine generates, sleeps and wakes again and again, and loses neither adapter nor memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from floe.cluster.messages import RolloutGroup
from floe.cluster.prove.gpu.cuda import used_bytes
from floe.cluster.prove.gpu.engine_alone import ADAPTER_VERSION, NAMESPACE, learners_side
from floe.cluster.prove.gpu.engine_under_proof import (
    Demo,
    ask,
    engine,
    free_device_bytes,
    resident_bytes,
    set_stop,
    smoke_config,
)
from floe.cluster.prove.gpu.findings import Figures, Line, Setting, at_least, at_most
from floe.cluster.ray_actors.placement import ray_session

MIB = 2**20
MAX_GROWTH_MIB = {"cuda": 64, "cpu": 64}  # granularity of an allocator
CUT_TOKENS = 3
WARM_UP = 2  # rounds after which everything that is kept has been made


def longest_text(groups: Sequence[RolloutGroup]) -> str:
    return max((one.text for group in groups for one in group.completions), key=len)


def prove(setting: Setting) -> Iterator[Line | Figures]:
    is_gpu = setting.device == "cuda"
    num_rounds = 4 if setting.is_quick else 10
    config = smoke_config(setting, "cluster.colocation=engine_sleeps")
    demo = Demo.of(config, 2, 8)
    # One request reaches its length before the model or a text ends it.
    requests = (demo.requests[0], replace(demo.requests[1], max_new_tokens=CUT_TOKENS))
    before_bytes = used_bytes() if is_gpu else 0
    num_stopped = num_cut = 0
    held: list[int] = []
    asleep: list[int] = []
    with ray_session(config.cluster, NAMESPACE), engine(config, demo.model_dir) as (pool, handle):
        exported = learners_side(config, demo.model_dir, "cpu", requests[0].prompt_token_ids).manifest
        pool.install(exported)
        for number in range(num_rounds):
            groups = list(pool.generate(requests, ADAPTER_VERSION))
            ends = [one.truncated for group in groups for one in group.completions]
            num_stopped, num_cut = num_stopped + ends.count(False), num_cut + ends.count(True)
            # Every second round ends by a text that occurs early.
            ask(handle, set_stop, [] if number % 2 else [longest_text(groups)[:4]])
            pool.release()
            if is_gpu:
                asleep.append(used_bytes() - before_bytes)
            pool.acquire()  # raises where a slot's digest differs from that of the installed adapter
            held.append(-ask(handle, free_device_bytes) if is_gpu else ask(handle, resident_bytes))
    yield at_least(
        "rounds of generating, sleeping and waking with the adapter's digest unchanged", num_rounds, num_rounds
    )
    yield at_least("completions that ended by a text or the end token", num_stopped, 1)
    yield at_least("completions that ended by their length", num_cut, 1)
    later = held[WARM_UP - 1 :]
    name = "memory of the card" if is_gpu else "resident memory of the engine's process"
    growth_mib = (max(later) - later[0]) / MIB
    yield at_most(f"growth of the {name} from round {WARM_UP} on", growth_mib, MAX_GROWTH_MIB[setting.device], " MiB")
    if is_gpu:
        yield Figures(values={"engine_asleep_bytes": max(asleep)})
