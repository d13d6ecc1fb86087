"""The whole configuration of a run: typed, frozen, validated at birth, light to import."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from configs.colocation import Colocation
from configs.errors import ConfigError
from configs.health_section import HealthSection
from configs.learning_sections import AlgorithmSection, LearnerSection, LoraSection, Section, WarmStartSection
from configs.reward_sections import RewardSection

NAME_OF_PROOF = "prove-24gb"  # of the one run without a reward of SQL


class RunSection(Section):
    name: str = "run"
    seed: int = Field(1, ge=0, description="Every random stream of the run derives from it.")
    num_steps: int = Field(20, ge=1, description="GRPO steps.")
    home: Path = Field(Path("~/.floe"), description="Holds runs, models, demo data and the warm-start cache.")
    max_generated_tokens: int | None = Field(
        None, ge=1, description="The run ends with the step that reaches so many, where that is before num_steps."
    )
    max_dropped_share: float = Field(
        0.2, ge=0, le=1, description="The run stops when more of a step's groups than this had no usable verdict."
    )

    checkpoint_every_steps: int = Field(1, ge=1, description="Steps between checkpoints; the last step has one.")
    keep_checkpoints: int = Field(2, ge=1, description="The newest ones stay.")
    retries: int = Field(0, ge=0, description="How often the run's driver is started again when it dies.")
    stop_within_s: float = Field(
        20.0,
        gt=0,
        description="After SIGTERM or SIGHUP: a step that takes longer is left, and a resume makes it again.",
    )
    max_rollout_log_bytes: int = Field(
        2 * 2**30, ge=2**20, description="Of rollouts.sqlite; beyond it the oldest steps' rows make room."
    )
    wandb_project: str | None = Field(None, description="Records go to this project of Weights & Biases too.")
    mlflow_uri: str | None = Field(None, description="Records go to this MLflow server, or folder, too.")

    @field_validator("mlflow_uri")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        if value is not None and "@" in urlsplit(value).netloc:
            raise ValueError(
                "run.mlflow_uri holds a name or password, which would be written to the run folder: take it out and "
                "set the variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        return value

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        is_plain = value.strip() not in ("", ".", "..") and value.isprintable() and not set(value) & set("/\\")
        if not is_plain:
            raise ValueError(
                f"run.name is {value!r}, but the run's folder is named after it: use letters, digits, '-' and '_'"
            )
        return value

    @property
    def home_dir(self) -> Path:
        try:
            return self.home.expanduser().resolve()
        except RuntimeError:
            raise ConfigError(
                f"run.home is {self.home}, and no variable HOME says where that is: set HOME, FLOE_HOME or run.home."
            ) from None


class ModelSection(Section):
    path: str = Field(
        "embedded:smollm2-135m-instruct",
        description="`embedded:smollm2-135m-instruct`, `embedded:tiny-qwen2`, a local folder or a hub name.",
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="The learner computes in it; `auto` is decided at the start by what is measured as fast."
    )
    max_context_tokens: int = Field(1024, ge=32, description="Longest prompt plus completion, in tokens.")


class DataSection(Section):
    source: Literal["demo", "files", "prepared"] = "demo"
    prepared: Path | None = Field(None, description="Folder that `floe prepare` wrote.")
    questions: Path | None = Field(None, description="Training questions: Spider- or BIRD-layout JSON.")
    databases: Path | None = Field(None, description="Folder of `<db_id>/<db_id>.sqlite`.")
    verification: Path | None = Field(None, description="Optional status per question; only `ok` ones are used.")
    held_out_share: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="Share of databases (or of golds, with one database) kept for `tune`, and as much for `test`.",
    )
    filter_by_pass_rate: bool = Field(
        False, description="Leaves out training questions whose measured pass rate is 0 or 1."
    )
    sampler: Literal["uniform", "middle"] = Field(
        "uniform", description="`middle` prefers training questions whose measured pass rate is near one half."
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

    @model_validator(mode="after")
    def _prepared_needs_a_folder(self) -> Self:
        if self.source == "prepared" and self.prepared is None:
            raise ValueError(
                "data.source is 'prepared' but data.prepared is not set: give the folder that floe prepare wrote"
            )
        if self.source != "prepared" and (self.filter_by_pass_rate or self.sampler == "middle"):
            raise ValueError(
                f"data.source is '{self.source}', but data.filter_by_pass_rate and data.sampler 'middle' need the pass "
                "rates of a prepared folder: set data.source=prepared, or leave them out"
            )
        return self


class PromptSection(Section):
    style: Literal["compact", "tagged", "arctic"] = Field(
        "compact",
        description="`compact`: tables, columns and the question, for small models; `tagged`: the same, with a line of "
        "thought before the answer; `arctic`: the method's.",
    )
    example_values: int = Field(0, ge=0, le=10, description="Distinct values sampled per column (arctic style).")
    descriptions: Literal["none", "columns", "values"] = Field(
        "none",
        description="From BIRD's `database_description/*.csv` (arctic style): of the columns, or of their values too.",
    )
    retrieved_values: int = Field(
        0, ge=0, le=20, description="Most values of the database that the question names, shown (arctic style)."
    )
    evidence: bool = Field(True, description="Show the question's external knowledge.")

    @model_validator(mode="after")
    def _compact_shows_names_alone(self) -> Self:
        for field in ("example_values", "descriptions", "retrieved_values"):
            value = getattr(self, field)
            if self.style != "arctic" and value not in (0, "none"):
                raise ValueError(
                    f"prompt.{field} is {value}, but prompt.style '{self.style}' shows nothing but names: "
                    "set prompt.style=arctic, or leave it out"
                )
        return self


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
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="The engine computes in it; `auto` is the learner's, unless another is clearly faster."
    )
    kv_cache_gib: int = Field(2, ge=1, description="Memory of the engine's KV cache on CPU, in GiB.")
    gpu_memory_share: float = Field(0.45, gt=0, le=1, description="Share of the GPU given to the engine.")
    max_num_seqs: int = Field(256, ge=1)
    num_cpus: float = Field(0.5, ge=0, description="Ray CPUs reserved per actor.")
    num_gpus: float = Field(0.0, ge=0, description="Ray GPUs reserved per actor.")
    num_threads: int = Field(0, ge=0, description="Threads of the engine; 0 is every core that the process may use.")
    stuck_after_s: float = Field(
        900.0, gt=0, description="An actor that finishes no group, or gives no other answer, for so long is replaced."
    )

    @property
    def num_live_adapters(self) -> int:
        """Versions that may still be asked for, and the one being installed."""
        return self.max_staleness + 2


class EvaluationSection(Section):
    enabled: bool = True
    split: Literal["train", "tune", "test"] = "test"
    num_samples: int = Field(8, ge=1)
    temperature: float = Field(0.8, gt=0)
    max_questions: int = Field(100_000, ge=1)
    include_base: bool = True
    include_entropy_control: bool = True
    num_bootstrap: int = Field(10_000, ge=100)
    num_timings: int = Field(
        10, ge=0, description="Of each right greedy answer and its gold in `floe evaluate`, for R-VES; 0 leaves it out."
    )
    every_steps: int = Field(0, ge=0, description="Steps between greedy evaluations during training; 0 is none.")
    num_interim_questions: int = Field(50, ge=1, description="Of the split `tune`, asked at each of them.")


class ClusterSection(Section):
    address: str = Field("auto", description="`auto`: the running cluster or an own local one; `local`; or host:port.")
    dashboard_port: int | None = Field(None, ge=1, le=65535, description="Of the own local Ray; None lets Ray choose.")
    colocation: Colocation | Literal["auto"] = Field(
        "auto",
        description="How engine and learner share a GPU: `resident`, `engine_sleeps` or `learner_offloads`; `auto` "
        "takes the first of them that fits by the memory plan.",
    )
    start_timeout_s: float = Field(300.0, gt=0, description="For actors to be placed and ready.")
    step_timeout_s: float = Field(
        3600.0,
        gt=0,
        description="For each answer of the learner: an update, an export, a warm start's batch or evaluation.",
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
    health: HealthSection = HealthSection()

    @property
    def warm_start_seed(self) -> int:
        return self.run.seed if self.warm_start.seed is None else self.warm_start.seed

    @property
    def max_prompt_tokens(self) -> int:
        """What the context leaves for the prompt beside the longest completion."""
        return self.model.max_context_tokens - self.rollout.max_new_tokens

    @model_validator(mode="after")
    def _proof_is_of_memory_alone(self) -> Self:
        if self.reward.design == "proof" and self.run.name != NAME_OF_PROOF:
            raise ValueError(
                "reward.design is 'proof', which is no reward of SQL and is for make prove-24gb alone: "
                "use reward.design=arctic"
            )
        return self

    @model_validator(mode="after")
    def _bfloat16_has_a_master(self) -> Self:
        if self.learner.zero_stage == 0 and self.model.dtype == "bfloat16":
            raise ValueError(
                "learner.zero_stage is 0, but with model.dtype 'bfloat16' DeepSpeed adds gradients up in float32 only "
                "from stage 1 on: set learner.zero_stage=1, which with one rank splits nothing, or model.dtype=float32"
            )
        return self

    @model_validator(mode="after")
    def _punishment_has_a_buffer(self) -> Self:
        buffer_tokens, limit = self.algorithm.overlong_buffer_tokens, self.rollout.max_new_tokens
        if self.algorithm.overlong == "punish" and not 1 <= buffer_tokens <= limit:
            raise ValueError(
                f"algorithm.overlong_buffer_tokens is {buffer_tokens}, but algorithm.overlong 'punish' needs a buffer "
                f"between 1 and rollout.max_new_tokens, {limit}: about a quarter of that is usual"
            )
        return self
