"""Memory of each placement in each phase of a step, and how much larger pack and KV cache could be (pure)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from floe.cluster.memory_plan import overheads
from floe.cluster.memory_plan.basis import ASSUMED, PlanBasis
from floe.cluster.memory_plan.engine_memory import engine_state, kv_bytes
from floe.cluster.memory_plan.host_memory import asleep_engine_bytes
from floe.cluster.memory_plan.learner.learner_memory import LearnerWork, learner_state
from floe.cluster.memory_plan.learner.packs import largest_pack_tokens
from floe.cluster.memory_plan.learner.work import BoundedWork, WorkSource
from floe.cluster.memory_plan.phases import Device, Item, Phase, PhasePlan, PlacementPlan, Role
from floe.cluster.memory_plan.shapes.model_shape import DTYPE_BYTES, FLOAT32_BYTES, ModelShape
from floe.configs.schema import RunConfig
from floe.configs.sections.colocation import Colocation

MAX_SEARCHED_TOKENS = 2**24
ROUNDING = 1e-9  # tolerance for sums of Ray's fractions
LEARNERS_TURN = (Phase.LEARNING, Phase.WARM_START, Phase.EQUALITY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """Number of processes that one device, the fullest, has to hold."""

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
    """Return how many that ask Ray for `each` of a GPU fit into the rest of one; 1 if each asks for several GPUs."""
    if each <= 0:
        return count
    return min(count, int(min(room, 1.0) / min(each, 1.0) + ROUNDING))


class Placements:
    """The placements of one configuration on devices of `budget_bytes`."""

    def __init__(self, config: RunConfig, shape: ModelShape, budget_bytes: int, basis: PlanBasis = ASSUMED) -> None:
        self.sharing = Sharing.of(config)
        self._on_host = self.sharing.device is Device.HOST
        self.engine = engine_state(config, shape, self._on_host)
        self.learner = learner_state(config, shape)
        self.work: WorkSource = BoundedWork(shape) if self._on_host or basis.work is None else basis.work
        self._config = config
        self._shape = shape
        self._budget_bytes = budget_bytes
        self._basis = basis
        self.min_kv_bytes = kv_bytes(config, shape, config.model.max_context_tokens, self._on_host)

    def options(self) -> tuple[PlacementPlan, ...]:
        """Return them in the order of preference. Without a shared GPU no turns are needed."""
        return tuple(map(self.plan, self._asked))

    @property
    def fit(self) -> bool:
        """Return whether one of the options fits."""
        return any(
            max(phase.num_bytes for phase in self._phases_of(one, largest_pack_tokens(self._config)))
            <= self._budget_bytes
            and self.kv_bytes >= self.min_kv_bytes
            and (self._host_limit_bytes is None or self._host_bytes(one) <= self._host_limit_bytes)
            for one in self._asked
        )

    @property
    def _asked(self) -> tuple[Colocation, ...]:
        asked = self._config.cluster.colocation
        if isinstance(asked, Colocation):
            return (asked,)
        return tuple(Colocation) if self.sharing.device is Device.SHARED_GPU else (Colocation.RESIDENT,)

    @property
    def _host_limit_bytes(self) -> int | None:
        return None if self._on_host else self._basis.host_bytes

    def plan(self, colocation: Colocation) -> PlacementPlan:
        pack_tokens = largest_pack_tokens(self._config)
        phases = self._phases_of(colocation, pack_tokens)
        return PlacementPlan(
            colocation=colocation,
            phases=phases,
            budget_bytes=self._budget_bytes,
            pack_tokens=pack_tokens,
            kv_bytes=self.kv_bytes,
            min_kv_bytes=self.min_kv_bytes,
            max_pack_tokens=self._max_pack_tokens(phases, pack_tokens),
            max_kv_bytes=self._max_kv_bytes(phases),
            host_bytes=self._host_bytes(colocation),
            host_limit_bytes=self._host_limit_bytes,
        )

    @property
    def engine_share_overhead_bytes(self) -> int:
        """Bytes that vLLM counts into the engine's share after weights, work and cache; without the context."""
        if self._on_host:
            return overheads.ENGINE_PROCESS
        return self._basis.overheads.cuda_graphs_bytes + self._basis.overheads.cublas_workspace_bytes

    @property
    def kv_bytes(self) -> int:
        """Bytes of the KV cache: as given on the CPU; on a GPU what its share leaves, computed as vLLM does."""
        if self._on_host:
            return self._config.rollout.kv_cache_gib * overheads.GIB
        share_bytes = int(self._config.rollout.gpu_memory_share * self._budget_bytes)
        return max(0, share_bytes - self.engine.num_bytes - self.engine_share_overhead_bytes)

    def work_bytes(self, num_tokens: int) -> int:
        """Return the bytes of a learner's pack, with what the allocator can't use."""
        return self._with_slack(self.work.learning(self._config, num_tokens))

    def _phases_of(self, colocation: Colocation, pack_tokens: int) -> tuple[PhasePlan, ...]:
        return tuple(self.phase_plan(colocation, phase, pack_tokens) for phase in self._phases)

    @property
    def _phases(self) -> tuple[Phase, ...]:
        left_out = {Phase.WARM_START, Phase.EQUALITY} if self._on_host else set()
        if not self._config.warm_start.enabled:
            left_out.add(Phase.WARM_START)
        return tuple(phase for phase in Phase if phase not in left_out)

    def phase_plan(self, colocation: Colocation, phase: Phase, pack_tokens: int) -> PhasePlan:
        items = (
            *self._engine_items(colocation, phase),
            *self._learner_items(colocation, phase, pack_tokens),
            *self._other_items(),
        )
        return PhasePlan(phase=phase, device=self.sharing.device, items=items)

    def _takes_turns(self, colocation: Colocation) -> bool:
        return colocation is not Colocation.RESIDENT and self.sharing.device is not Device.HOST

    def _engine_items(self, colocation: Colocation, phase: Phase) -> tuple[Item, ...]:
        known = self._basis.overheads
        if phase is Phase.WARM_START:
            return ()
        if phase in LEARNERS_TURN and self._takes_turns(colocation):
            parts = {"asleep, context and graphs": known.engine_asleep_bytes}
        else:
            beside = {
                "CUDA context": known.cuda_context_bytes,
                "CUDA graphs": known.cuda_graphs_bytes,
                "cuBLAS workspaces": known.cublas_workspace_bytes,
            }
            parts = {
                **({"process": overheads.ENGINE_PROCESS} if self._on_host else beside),
                "base weights": self.engine.base_weights,
                **({"packed embeddings": self.engine.packed_embeddings} if self._on_host else {}),
                "adapter slots": self.engine.adapter_slots,
                "activations and sampler": self.engine.activations + self.engine.sampler,
                "KV cache": self.kv_bytes,
            }
        return _items(Role.ENGINE, parts, self.sharing.num_engines)

    def _learner_items(self, colocation: Colocation, phase: Phase, pack_tokens: int) -> tuple[Item, ...]:
        state, known = self.learner, self._basis.overheads
        is_away = colocation is Colocation.LEARNER_OFFLOADS and phase not in LEARNERS_TURN and not self._on_host
        beside = {
            "CUDA context": known.cuda_context_bytes,
            "cuBLAS workspaces": known.cublas_workspace_bytes,
            "NCCL": known.nccl_bytes,
        }
        parts = {
            **({"process": overheads.LEARNER_PROCESS} if self._on_host else beside),
            "base weights": 0 if is_away else state.base_weights,
            "adapter": state.adapter,
            "gradients": state.gradients,
            "optimiser": state.optimizer + (state.optimizer_on_host if self._on_host else 0),
        }
        if phase is Phase.EQUALITY:
            parts["gradients compared"] = self._compared_bytes
        # On the CPU freed memory stays with the process (cluster/ray_actors/placement.py).
        if phase in LEARNERS_TURN or self._on_host:
            work = self._work_of(phase, pack_tokens)
            parts |= {
                "activations kept": work.kept_activations,
                "layer at work": work.layer_at_work,
                **({"logits chunk": work.logits} if work.logits else {}),
                "allocator": self._with_slack(work) - work.num_bytes,
            }
        return _items(Role.LEARNER, parts, self.sharing.num_learners)

    def _work_of(self, phase: Phase, pack_tokens: int) -> LearnerWork:
        if phase is Phase.WARM_START:
            return self.work.warm_start(self._config, pack_tokens)
        learning = self.work.learning(self._config, pack_tokens)
        if self._config.algorithm.supervised_coefficient > 0:  # its packs hold answers of many prompts
            learning = max(learning, self.work.warm_start(self._config, pack_tokens), key=lambda work: work.num_bytes)
        if phase is not Phase.EQUALITY:
            return learning
        return max(learning, self.work.own_forward(self._config), key=lambda work: work.num_bytes)

    @property
    def _compared_bytes(self) -> int:
        """Return the learner's gradient, the model's own in float32, and the weights of B that the probe's replace."""
        num_trained = self._shape.num_adapter_parameters(self._config.lora.rank, self._config.lora.target_modules)
        return num_trained * (2 * DTYPE_BYTES[self._config.model.dtype] + FLOAT32_BYTES)

    def _with_slack(self, work: LearnerWork) -> int:
        share = overheads.HEAP_SLACK_SHARE if self._on_host else self._basis.overheads.allocator_slack_share
        return int(work.num_bytes * (1 + share))

    def _other_items(self) -> tuple[Item, ...]:
        if not self._on_host:
            return ()
        return (Item(role=Role.OTHERS, name="driver, Ray, reward workers", num_bytes=overheads.REST_OF_RUN),)

    def _max_pack_tokens(self, phases: tuple[PhasePlan, ...], pack_tokens: int) -> int:
        """Return the tokens of the largest pack with which every phase that uses one fits the budget; 0 for none."""
        rooms: dict[Phase, int] = {}  # for the work of one learner
        for one in phases:
            if one.phase in LEARNERS_TURN or self._on_host:
                worked = self._with_slack(self._work_of(one.phase, pack_tokens)) * self.sharing.num_learners
                held = one.role_bytes(Role.LEARNER) if one.device is Device.OWN_GPUS else one.num_bytes
                rooms[one.phase] = (self._budget_bytes - (held - worked)) // self.sharing.num_learners
        return _largest(
            lambda num_tokens: all(
                self._with_slack(self._work_of(phase, num_tokens)) <= room for phase, room in rooms.items()
            )
        )

    def _max_kv_bytes(self, phases: tuple[PhasePlan, ...]) -> int:
        """Return the largest KV cache of one engine, in whole tokens' worth; 0 when there is no room for one."""
        awake = [one for one in phases if any(item.name == "KV cache" for item in one.items)]
        beside = max(one.role_bytes(Role.ENGINE) if one.device is Device.OWN_GPUS else one.num_bytes for one in awake)
        room = (self._budget_bytes - beside) // self.sharing.num_engines + self.kv_bytes
        per_token = self._shape.kv_bytes_per_token(self._config.rollout.dtype)
        return max(0, room // per_token * per_token)

    def _host_bytes(self, colocation: Colocation) -> int:
        if self._on_host:
            return 0
        asleep = 0
        if self._takes_turns(colocation):
            asleep = asleep_engine_bytes(self._shape, self._config.rollout.dtype, self.engine.adapter_slots)
        offloaded = self.learner.base_weights if colocation is Colocation.LEARNER_OFFLOADS else 0
        of_device = self.sharing.num_engines * asleep + self.sharing.num_learners * (
            offloaded + self.learner.optimizer_on_host
        )
        return of_device * max(1, self._config.num_pairs)  # assumes that all are on one host


def _items(role: Role, parts: dict[str, int], count: int) -> tuple[Item, ...]:
    return tuple(Item(role=role, name=name, num_bytes=count * num_bytes) for name, num_bytes in parts.items())


def _largest(fits: Callable[[int], bool]) -> int:
    """Return the largest number up to a limit for which the monotone condition holds; 0 when it holds for none."""
    low, high = 0, MAX_SEARCHED_TOKENS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
