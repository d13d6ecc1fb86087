"""The whole configuration of a run: typed, frozen, validated at birth, light to import."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SEVEN_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
VLLM_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunSection(Section):
    name: str = "run"
    seed: int = Field(1, ge=0, description="Every random stream of the run derives from it.")
    num_steps: int = Field(20, ge=1, description="GRPO steps.")
    home: Path = Field(Path("~/.floe"), description="Holds runs, models, demo data and the warm-start cache.")
    max_dropped_share: float = Field(
        0.2, ge=0, le=1, description="The run stops when more of a step's groups than this had no usable verdict."
    )

    max_rollout_log_bytes: int = Field(
        2 * 2**30, ge=2**20, description="Of rollouts.sqlite; beyond it the oldest steps' rows make room."
    )

    @property
    def home_dir(self) -> Path:
        return self.home.expanduser().resolve()


class ModelSection(Section):
    path: str = Field(
        "embedded:smollm2-135m-instruct",
        description="`embedded:smollm2-135m-instruct`, `embedded:tiny-qwen2`, a local folder or a hub name.",
    )
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    max_context_tokens: int = Field(1024, ge=32, description="Longest prompt plus completion, in tokens.")


class DataSection(Section):
    source: Literal["demo", "files"] = "demo"
    questions: Path | None = Field(None, description="Training questions: Spider- or BIRD-layout JSON.")
    databases: Path | None = Field(None, description="Folder of `<db_id>/<db_id>.sqlite`.")
    verification: Path | None = Field(None, description="Optional status per question; only `ok` ones are used.")
    held_out_share: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="Share of databases (or of golds, with one database) kept for `tune`, and as much for `test`.",
    )
    max_train_questions: int = Field(100_000, ge=1)
    max_eval_questions: int = Field(100_000, ge=1)

    @model_validator(mode="after")
    def _files_need_paths(self) -> Self:
        if self.source == "files" and (self.questions is None or self.databases is None):
            raise ValueError(
                "data.source is 'files' but data.questions or data.databases is not set: "
                "give both, as in data.questions=spider/questions.json data.databases=spider/databases"
            )
        return self


class PromptSection(Section):
    style: Literal["compact", "arctic"] = "compact"
    example_values: int = Field(0, ge=0, le=10, description="Distinct example values shown per column (arctic style).")


class RolloutSection(Section):
    num_actors: int = Field(1, ge=1)
    group_size: int = Field(16, ge=1, le=64, description="Candidates per question.")
    questions_per_step: int = Field(8, ge=1)
    temperature: float = Field(0.8, gt=0, le=2)
    max_new_tokens: int = Field(64, ge=1)
    max_staleness: int = Field(0, ge=0, le=8, description="Steps that generation runs ahead; 0 is synchronous.")
    adapter_transport: Literal["auto", "memory", "folder"] = Field(
        "auto", description="Into the engine: from memory where the vLLM version is known, else by folders in /dev/shm."
    )
    kv_cache_gib: int = Field(2, ge=1, description="Memory of the engine's KV cache on CPU, in GiB.")
    gpu_memory_share: float = Field(0.45, gt=0, le=1, description="Share of the GPU given to the engine.")
    max_num_seqs: int = Field(256, ge=1)
    num_cpus: float = Field(0.5, ge=0, description="Ray CPUs reserved per actor.")
    num_gpus: float = Field(0.0, ge=0, description="Ray GPUs reserved per actor.")
    num_threads: int = Field(0, ge=0, description="Threads of the engine; 0 is every core of the machine.")
    stuck_after_s: float = Field(
        900.0, gt=0, description="An actor that finishes no group, or gives no other answer, for so long is replaced."
    )

    @property
    def num_live_adapters(self) -> int:
        """Versions that may still be asked for, and the one being installed."""
        return self.max_staleness + 2


class RewardSection(Section):
    design: Literal["arctic"] = "arctic"
    semantics: Literal["bird", "spider", "strict"] = "bird"
    suite: Path | None = Field(
        None, description="Folder of `<db_id>/*.sqlite`, further contents that `spider` semantics judge on as well."
    )
    empty_gold: Literal["score", "skip", "down_weight"] = Field(
        "score", description="For golds that return no rows: `skip` gives no reward, `down_weight` less for a match."
    )
    empty_gold_weight: float = Field(
        0.5, ge=0.1, le=1, description="Of a match where every gold is empty, for `down_weight`; 0.1 is a mismatch's."
    )
    num_workers: int = Field(2, ge=1)
    time_limit_s: float = Field(5.0, gt=0, description="CPU seconds of one candidate.")
    max_rows: int = Field(500_000, ge=1)
    max_result_bytes: int = Field(64 * 2**20, ge=1024)
    max_memory_bytes: int = Field(
        256 * 2**20, ge=2**20, description="SQLite heap of one executor child, and its temporary file."
    )
    float_tolerance: float = Field(0.0, ge=0, description="Relative; 0 compares exactly.")
    num_cpus: float = Field(0.25, ge=0, description="Ray CPUs reserved per worker.")
    stuck_after_s: float = Field(
        120.0,
        gt=0,
        description="A worker that gives no answer for so long, beside twice what its groups' time limits allow, is "
        "replaced.",
    )

    @model_validator(mode="after")
    def _a_suite_is_judged_by_spider(self) -> Self:
        if self.suite is not None and self.semantics != "spider":
            raise ValueError(
                f"reward.suite is set but reward.semantics is '{self.semantics}', which judges on one database: "
                "set reward.semantics=spider, or leave out the suite"
            )
        return self


class LoraSection(Section):
    rank: int = 16
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, description="Of GRPO's updates; only 0 is taken.")
    target_modules: tuple[str, ...] = SEVEN_PROJECTIONS

    @field_validator("dropout")
    @classmethod
    def _no_dropout(cls, value: float) -> float:
        # A field of type Literal can't hold a float.
        if value != 0:
            raise ValueError(
                f"lora.dropout is {value:g}, but in GRPO a dropout would turn ratio and KL into noise: set it to 0"
            )
        return value

    @model_validator(mode="after")
    def _served_by_vllm(self) -> Self:
        if self.rank not in VLLM_LORA_RANKS:
            raise ValueError(f"lora.rank is {self.rank}, which vLLM has no slot for: use one of {VLLM_LORA_RANKS}")
        unknown = sorted(set(self.target_modules) - set(SEVEN_PROJECTIONS))
        if unknown:
            raise ValueError(
                f"lora.target_modules names {unknown}, which floe can't broadcast: use {SEVEN_PROJECTIONS}"
            )
        return self


class LearnerSection(Section):
    num_ranks: int = Field(1, ge=1, description="Processes that share each update's packs.")
    learning_rate: float = Field(3e-5, gt=0)
    adam_betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    warmup_share: float = Field(0.1, ge=0, lt=1)
    schedule: Literal["cosine", "constant"] = "cosine"
    min_learning_rate_share: float = Field(0.1, ge=0, le=1)
    zero_stage: Literal[0, 1, 2] = 2
    offload_optimizer: bool = False
    gradient_checkpointing: bool = False
    updates_per_batch: int = Field(1, ge=1)
    max_pack_tokens: int = Field(2048, ge=64, description="Tokens of one packed micro-batch.")
    num_cpus: float = Field(0.5, ge=0)
    num_gpus: float = Field(0.0, ge=0)
    num_threads: int = Field(0, ge=0, description="Of a rank; 0 divides every core of the machine among the ranks.")


class AlgorithmSection(Section):
    loss: Literal["grpo", "gspo", "cispo"] = Field(
        "grpo",
        description="`gspo` clips the ratio of whole sequences and wants clips near 3e-4; `cispo` clips weights.",
    )
    advantage_scale: Literal["none", "std", "batch"] = Field("none", description="`none` is Dr. GRPO's.")
    drop_groups_without_match: bool = False
    max_refill_rounds: int = Field(
        0,
        ge=0,
        description="Dynamic sampling: how often a step may ask further questions for groups that carry no gradient.",
    )
    clip_low: float = Field(0.2, gt=0, lt=1)
    clip_high: float = Field(0.2, gt=0)
    loss_aggregation: Literal["token", "sequence", "dr_grpo"] = "token"
    kl_coefficient: float = Field(0.001, ge=0)
    importance: Literal["truncate", "mask_sequence", "none"] = Field(
        "truncate",
        description="Of the learner's over the engine's probability: per token, cut at the cap; or per sequence, which "
        "is dropped outside [1 / cap, cap].",
    )
    importance_cap: float = Field(2.0, gt=0, description="Cap of the importance weight (engine to learner).")
    overlong: Literal["keep", "mask", "punish"] = Field(
        "keep", description="Truncated completions: `mask` leaves them out; `punish` takes up to 1 off near the limit."
    )
    overlong_buffer_tokens: int = Field(0, ge=0, description="Tokens before the limit over which `punish` sets in.")

    @model_validator(mode="after")
    def _refill_has_something_to_replace(self) -> Self:
        if self.max_refill_rounds > 0 and self.kl_coefficient > 0 and not self.drop_groups_without_match:
            raise ValueError(
                f"algorithm.max_refill_rounds is {self.max_refill_rounds}, but with algorithm.kl_coefficient "
                f"{self.kl_coefficient:g} groups of equal rewards carry a gradient too, that of the KL term, and are "
                "not refilled: set kl_coefficient=0 or drop_groups_without_match=true, or leave out the refill"
            )
        return self

    @model_validator(mode="after")
    def _mask_keeps_something(self) -> Self:
        if self.importance == "mask_sequence" and self.importance_cap < 1:
            raise ValueError(
                f"algorithm.importance_cap is {self.importance_cap:g}, but with algorithm.importance 'mask_sequence' "
                "no ratio lies between 1 / cap and a cap below 1: set it to at least 1"
            )
        return self


class WarmStartSection(Section):
    enabled: bool = True
    learning_rate: float = Field(5e-4, gt=0)
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    batch_questions: int = Field(32, ge=1)
    max_epochs: float = Field(4.0, gt=0)
    evals_per_epoch: int = Field(4, ge=1)
    patience: int = Field(2, ge=1, description="Held-back losses without a new best before stopping.")
    min_improvement: float = Field(0.0, ge=0, description="What counts as a new best, in nats per token.")
    max_train_questions: int = Field(100_000, ge=1)
    max_held_back_questions: int = Field(200, ge=1, description="Of the split `tune`, for the held-back loss.")


class EvaluationSection(Section):
    enabled: bool = True
    split: Literal["train", "tune", "test"] = "test"
    num_samples: int = Field(8, ge=1)
    temperature: float = Field(0.8, gt=0)
    max_questions: int = Field(100_000, ge=1)
    include_base: bool = True
    include_entropy_control: bool = True
    num_bootstrap: int = Field(10_000, ge=100)


class ClusterSection(Section):
    address: str = Field("auto", description="`auto`: the running cluster or an own local one; `local`; or host:port.")
    dashboard_port: int | None = Field(None, description="Of the own local Ray; None lets Ray choose.")
    start_timeout_s: float = Field(300.0, gt=0, description="For actors to be placed and ready.")
    step_timeout_s: float = Field(
        3600.0,
        gt=0,
        description="For each answer of the learner: an update, an export, a warm start's evaluation.",
    )
    min_free_memory_gib: float = Field(4.0, ge=0)


class RunConfig(Section):
    run: RunSection = RunSection()
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    prompt: PromptSection = PromptSection()
    rollout: RolloutSection = RolloutSection()
    reward: RewardSection = RewardSection()
    lora: LoraSection = LoraSection()
    learner: LearnerSection = LearnerSection()
    algorithm: AlgorithmSection = AlgorithmSection()
    warm_start: WarmStartSection = WarmStartSection()
    evaluation: EvaluationSection = EvaluationSection()
    cluster: ClusterSection = ClusterSection()

    @model_validator(mode="after")
    def _punishment_has_a_buffer(self) -> Self:
        buffer_tokens, limit = self.algorithm.overlong_buffer_tokens, self.rollout.max_new_tokens
        if self.algorithm.overlong == "punish" and not 1 <= buffer_tokens <= limit:
            raise ValueError(
                f"algorithm.overlong_buffer_tokens is {buffer_tokens}, but algorithm.overlong 'punish' needs a buffer "
                f"between 1 and rollout.max_new_tokens, {limit}: about a quarter of that is usual"
            )
        return self
