"""What each placement holds in each phase of a step, and how much larger pack and KV cache could be (pure)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cluster.memory_plan import overheads
from cluster.memory_plan.engine_memory import engine_state, kv_bytes
from cluster.memory_plan.learner_memory import learner_state, learner_work
from cluster.memory_plan.model_shape import ModelShape
from cluster.memory_plan.packs import heaviest_pack, largest_pack_tokens
from cluster.memory_plan.phases import Device, Item, Phase, PhasePlan, PlacementPlan, Role
from configs.colocation import Colocation
from configs.schema import RunConfig

MAX_SEARCHED_TOKENS = 2**24
ROUNDING = 1e-9  # of sums of Ray's fractions


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """What one device, the fullest, has to hold."""

    device: Device
    num_engines: int
    num_learners: int

    @classmethod
    def of(cls, config: RunConfig) -> Sharing:
        rollout, learner = config.rollout, config.learner
        if config.num_pairs:
            return cls(device=Device.SHARED_GPU, num_engines=1, num_learners=1)
        if rollout.num_gpus == 0:
            return cls(device=Device.HOST, num_engines=rollout.num_actors, num_learners=learner.num_ranks)
        num_learners = _as_many(learner.num_ranks, learner.num_gpus, 1.0)
        num_engines = _as_many(rollout.num_actors, rollout.num_gpus, 1.0 - num_learners * learner.num_gpus)
        if num_engines and learner.num_gpus > 0:
            return cls(device=Device.SHARED_GPU, num_engines=num_engines, num_learners=num_learners)
        num_engines = _as_many(rollout.num_actors, rollout.num_gpus, 1.0)
        return cls(device=Device.OWN_GPUS, num_engines=num_engines, num_learners=num_learners)


def _as_many(count: int, each: float, room: float) -> int:
    """How many that ask Ray for `each` of a GPU come to lie in what is left of one; 1 that asks for several whole."""
    if each <= 0:
        return count
    return min(count, int(min(room, 1.0) / min(each, 1.0) + ROUNDING))


class Placements:
    """The placements of one configuration on devices of `budget_bytes`."""

    def __init__(self, config: RunConfig, shape: ModelShape, budget_bytes: int) -> None:
        self.sharing = Sharing.of(config)
        self._on_host = self.sharing.device is Device.HOST
        self.engine = engine_state(config, shape, self._on_host)
        self.learner = learner_state(config, shape)
        self._config = config
        self._shape = shape
        self._budget_bytes = budget_bytes
        self.min_kv_bytes = kv_bytes(config, shape, config.model.max_context_tokens, self._on_host)

    def options(self) -> tuple[PlacementPlan, ...]:
        """In the order of preference. Without a shared GPU there is nothing to take turns for."""
        asked = self._config.cluster.colocation
        if isinstance(asked, Colocation):
            return (self.plan(asked),)
        if self.sharing.device is not Device.SHARED_GPU:
            return (self.plan(Colocation.RESIDENT),)
        return tuple(self.plan(one) for one in Colocation)

    def plan(self, colocation: Colocation) -> PlacementPlan:
        pack_tokens = largest_pack_tokens(self._config)
        phases = tuple(
            PhasePlan(
                phase=phase,
                device=self.sharing.device,
                items=(
                    *self._engine_items(colocation, phase),
                    *self._learner_items(colocation, phase, pack_tokens),
                    *self._other_items(),
                ),
            )
            for phase in Phase
        )
        return PlacementPlan(
            colocation=colocation,
            phases=phases,
            budget_bytes=self._budget_bytes,
            pack_tokens=pack_tokens,
            kv_bytes=self.kv_bytes,
            min_kv_bytes=self.min_kv_bytes,
            max_pack_tokens=self._max_pack_tokens(phases),
            max_kv_bytes=self._max_kv_bytes(phases),
            host_bytes=self._host_bytes(colocation),
        )

    @property
    def engine_overhead_bytes(self) -> int:
        """Of a process that holds an engine, beside what it computes with."""
        if self._on_host:
            return overheads.ENGINE_PROCESS
        return overheads.CUDA_CONTEXT + overheads.CUDA_GRAPHS

    @property
    def kv_bytes(self) -> int:
        """Given on the CPU; on a GPU what its share leaves, as vLLM does it."""
        if self._on_host:
            return self._config.rollout.kv_cache_gib * overheads.GIB
        share_bytes = int(self._config.rollout.gpu_memory_share * self._budget_bytes)
        return max(0, share_bytes - self.engine.num_bytes - self.engine_overhead_bytes)

    def work_bytes(self, num_tokens: int) -> int:
        """Of a learner's pack, with what the allocator can't use."""
        pack = heaviest_pack(self._config, self._shape.num_heads, num_tokens)
        share = overheads.HEAP_SLACK_SHARE if self._on_host else overheads.ALLOCATOR_SLACK_SHARE
        return int(learner_work(self._config, self._shape, pack).num_bytes * (1 + share))

    def _takes_turns(self, colocation: Colocation) -> bool:
        return colocation is not Colocation.RESIDENT and self.sharing.device is not Device.HOST

    def _engine_items(self, colocation: Colocation, phase: Phase) -> tuple[Item, ...]:
        if phase is Phase.LEARNING and self._takes_turns(colocation):
            parts = {"asleep": overheads.ENGINE_ASLEEP}
        else:
            parts = {
                "process" if self._on_host else "CUDA context and graphs": self.engine_overhead_bytes,
                "base weights": self.engine.base_weights,
                **({"packed embeddings": self.engine.packed_embeddings} if self._on_host else {}),
                "adapter slots": self.engine.adapter_slots,
                "activations and sampler": self.engine.activations + self.engine.sampler,
                "KV cache": self.kv_bytes,
            }
        return _items(Role.ENGINE, parts, self.sharing.num_engines)

    def _learner_items(self, colocation: Colocation, phase: Phase, pack_tokens: int) -> tuple[Item, ...]:
        state = self.learner
        is_away = colocation is Colocation.LEARNER_OFFLOADS and phase is not Phase.LEARNING and not self._on_host
        parts = {
            "process" if self._on_host else "CUDA context": (
                overheads.LEARNER_PROCESS if self._on_host else overheads.CUDA_CONTEXT
            ),
            "base weights": 0 if is_away else state.base_weights,
            "adapter": state.adapter,
            "gradients": state.gradients,
            "optimiser": state.optimizer + (state.optimizer_on_host if self._on_host else 0),
        }
        # On the CPU freed memory stays with the process (cluster/placement.py).
        if phase is Phase.LEARNING or self._on_host:
            work = learner_work(
                self._config, self._shape, heaviest_pack(self._config, self._shape.num_heads, pack_tokens)
            )
            parts |= {
                "activations kept": work.kept_activations,
                "layer at work": work.layer_at_work,
                "logits chunk": work.logits,
                "allocator": self.work_bytes(pack_tokens) - work.num_bytes,
            }
        return _items(Role.LEARNER, parts, self.sharing.num_learners)

    def _other_items(self) -> tuple[Item, ...]:
        if not self._on_host:
            return ()
        return (Item(role=Role.OTHERS, name="driver, Ray, reward workers", num_bytes=overheads.REST_OF_RUN),)

    def _max_pack_tokens(self, phases: tuple[PhasePlan, ...]) -> int:
        """Tokens of the largest pack that leaves every phase within the budget; 0 when there is none."""
        worked = self.work_bytes(largest_pack_tokens(self._config)) * self.sharing.num_learners
        busy = [one for one in phases if any(item.name == "activations kept" for item in one.items)]
        beside = max(one.role_bytes(Role.LEARNER) if one.device is Device.OWN_GPUS else one.num_bytes for one in busy)
        room = (self._budget_bytes - (beside - worked)) // self.sharing.num_learners
        return _largest(lambda num_tokens: self.work_bytes(num_tokens) <= room)

    def _max_kv_bytes(self, phases: tuple[PhasePlan, ...]) -> int:
        """Of one engine, in whole tokens' worth; 0 when there is no room for one."""
        awake = [one for one in phases if any(item.name == "KV cache" for item in one.items)]
        beside = max(one.role_bytes(Role.ENGINE) if one.device is Device.OWN_GPUS else one.num_bytes for one in awake)
        room = (self._budget_bytes - beside) // self.sharing.num_engines + self.kv_bytes
        per_token = self._shape.kv_bytes_per_token(self._config.rollout.dtype)
        return max(0, room // per_token * per_token)

    def _host_bytes(self, colocation: Colocation) -> int:
        if self._on_host:
            return 0
        asleep = self.engine.base_weights + self.engine.adapter_slots if self._takes_turns(colocation) else 0
        offloaded = self.learner.base_weights if colocation is Colocation.LEARNER_OFFLOADS else 0
        return self.sharing.num_engines * asleep + self.sharing.num_learners * (
            offloaded + self.learner.optimizer_on_host
        )


def _items(role: Role, parts: dict[str, int], count: int) -> tuple[Item, ...]:
    return tuple(Item(role=role, name=name, num_bytes=count * num_bytes) for name, num_bytes in parts.items())


def _largest(fits: Callable[[int], bool]) -> int:
    """The largest number up to a limit for which the monotone condition holds; 0 when it does for none."""
    low, high = 0, MAX_SEARCHED_TOKENS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
