"""The plan of one process on the CPU with one group as its pack, to be compared with a measurement (pure)."""

from __future__ import annotations

from floe.cluster.memory_plan import overheads
from floe.cluster.memory_plan.engine_memory import engine_state
from floe.cluster.memory_plan.learner.learner_memory import learner_state, learner_work
from floe.cluster.memory_plan.learner.packs import exact_pack
from floe.cluster.memory_plan.phases import Role
from floe.cluster.memory_plan.shapes.model_shape import ModelShape
from floe.configs.schema import RunConfig


def process_bytes(config: RunConfig, shape: ModelShape, role: Role, prompt_tokens: int, completion_tokens: int) -> int:
    if role is Role.ENGINE:
        cache = config.rollout.kv_cache_gib * overheads.GIB
        return overheads.ENGINE_PROCESS + engine_state(config, shape, on_cpu=True).num_bytes + cache
    pack = exact_pack(shape.num_heads, prompt_tokens, completion_tokens, config.rollout.group_size)
    state = learner_state(config, shape)
    work = int(learner_work(config, shape, pack).num_bytes * (1 + overheads.HEAP_SLACK_SHARE))
    return overheads.LEARNER_PROCESS + state.device_bytes + state.optimizer_on_host + work
