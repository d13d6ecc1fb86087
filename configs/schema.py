"""The whole configuration of a run: typed, frozen, validated when it is made, light to import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from floe.configs.plugins.arguments import Arguments
from floe.configs.plugins.kinds import DATA_SOURCES, PROMPT_STYLES, REWARDS, NamedPlugin
from floe.configs.sections.addresses import is_host_and_port
from floe.configs.sections.bounds import MAX_COUNT, MAX_GIB, MAX_PORT, MAX_S, MAX_TOKENS
from floe.configs.sections.colocation import Colocation
from floe.configs.sections.engine_batch import MIN_BATCHED_TOKENS
from floe.configs.sections.health_section import HealthSection
from floe.configs.sections.learning_sections import (
    AlgorithmSection,
    LearnerSection,
    LoraSection,
    Section,
    WarmStartSection,
)
from floe.configs.sections.resume_rule import Fixed, Free
from floe.configs.sections.reward_sections import RewardSection
from floe.configs.sections.run_section import RunSection
from floe.configs.sections.sampling_sections import EvaluationSection, RolloutSection

START_LIMIT_S = 300.0
GPU_START_LIMIT_S = 1800.0  # a first start on a GPU compiles the model and captures its graphs
GPU_SHARE_ROUNDING = 1e-9  # tolerance for sums of fractions
STYLES_OF_NAMES = ("compact", "tagged")  # they show no types, comments or values
NAME_OF_PROOF = "prove-24gb"  # the design of the only run without a reward of SQL


class ModelSection(Section):
    path: Fixed[str] = Field(
        "embedded:smollm2-135m-instruct",
        description="`embedded:smollm2-135m-instruct`, `embedded:tiny-qwen2`, a local folder or a hub name.",
    )
    dtype: Fixed[Literal["auto", "bfloat16", "float32"]] = Field(
        "auto", description="The learner computes in it; `auto` is decided at the start by what is measured as fast."
    )
    max_context_tokens: Fixed[int] = Field(
        1024, ge=32, le=MAX_TOKENS, description="Longest prompt plus completion, in tokens."
    )

    @field_validator("path")
    @classmethod
    def _names_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("model.path is empty: give a model's folder, its name on the hub, or leave it out")
        return value


class DataSection(Section):
    source: Fixed[Annotated[str, AfterValidator(DATA_SOURCES.checked_name)]] = Field(
        "demo",
        description="`demo`, `files`, `prepared`, or a plug-in as `package.module:Name` or by its entry point's name.",
    )
    arguments: Fixed[Arguments] = Field({}, description="Keyword arguments of a source that is a plug-in.")
    prepared: Fixed[Path | None] = Field(None, description="Folder that `floe prepare` wrote.")
    questions: Fixed[Path | None] = Field(None, description="Training questions: Spider- or BIRD-layout JSON.")
    databases: Fixed[Path | None] = Field(None, description="Folder of `<db_id>/<db_id>.sqlite`.")
    verification: Fixed[Path | None] = Field(None, description="Optional status per question; only `ok` ones are used.")
    held_out_share: Fixed[float] = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="Share of databases (or of golds, with one database) kept for `tune`, and as much for `test`.",
    )
    filter_by_pass_rate: Fixed[bool] = Field(
        False, description="Leaves out training questions whose measured pass rate is 0 or 1."
    )
    sampler: Fixed[Literal["uniform", "middle"]] = Field(
        "uniform", description="`middle` prefers training questions whose measured pass rate is near one half."
    )
    max_train_questions: Fixed[int] = Field(100_000, ge=1, le=MAX_COUNT)
    max_eval_questions: Free[int] = Field(100_000, ge=1, le=MAX_COUNT)

    @model_validator(mode="after")
    def _arguments_are_a_plugins(self) -> Self:
        if why := DATA_SOURCES.refused_arguments(self.source, self.arguments):
            raise ValueError(why)
        return self

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
    style: Fixed[Annotated[str, AfterValidator(PROMPT_STYLES.checked_name)]] = Field(
        "compact",
        description="`compact`: tables, columns and the question, for small models; `tagged`: the same, with a line of "
        "thought before the answer; `arctic`: the method's; or a plug-in as `package.module:Name` or by its entry "
        "point's name.",
    )
    arguments: Fixed[Arguments] = Field({}, description="Keyword arguments of a style that is a plug-in.")
    example_values: Fixed[int] = Field(0, ge=0, le=10, description="Distinct values sampled per column (arctic style).")
    descriptions: Fixed[Literal["none", "columns", "values"]] = Field(
        "none",
        description="From BIRD's `database_description/*.csv` (arctic style): of the columns, or of their values too.",
    )
    retrieved_values: Fixed[int] = Field(
        0, ge=0, le=20, description="Most values of the database that the question names, shown (arctic style)."
    )
    evidence: Fixed[bool] = Field(True, description="Show the question's external knowledge.")

    @model_validator(mode="after")
    def _compact_shows_names_alone(self) -> Self:
        for field in ("example_values", "descriptions", "retrieved_values"):
            value = getattr(self, field)
            if self.style in STYLES_OF_NAMES and value not in (0, "none"):
                raise ValueError(
                    f"prompt.{field} is {value}, but prompt.style '{self.style}' shows nothing but names: "
                    "set prompt.style=arctic, or leave it out"
                )
        return self

    @model_validator(mode="after")
    def _arguments_are_a_plugins(self) -> Self:
        if why := PROMPT_STYLES.refused_arguments(self.style, self.arguments):
            raise ValueError(why)
        return self


class ClusterSection(Section):
    address: Free[str] = Field(
        "auto", description="`auto`: the running cluster or an own local one; `local`; or host:port."
    )
    dashboard_port: Free[int | None] = Field(
        None, ge=1, le=MAX_PORT, description="Dashboard port of the own local Ray; left out, there is no dashboard."
    )
    colocation: Free[Colocation | Literal["auto"]] = Field(
        "auto",
        description="How engine and learner share a GPU: `resident`, `engine_sleeps` or `learner_offloads`; `auto` "
        "takes the first of them that fits by the memory plan.",
    )
    start_timeout_s: Free[float | None] = Field(
        None,
        gt=0,
        le=MAX_S,
        description="Limit for actors to be placed and ready; left out, 300, and 1800 for a run that asks for GPUs.",
    )
    step_timeout_s: Free[float] = Field(
        3600.0,
        gt=0,
        le=MAX_S,
        description="Limit for each answer of the learner: an update, an export, a warm start's batch or evaluation.",
    )
    min_free_memory_gib: Free[float] = Field(4.0, ge=0, le=MAX_GIB)

    @field_validator("address")
    @classmethod
    def _an_address_of_ray(cls, value: str) -> str:
        if value not in ("auto", "local") and not is_host_and_port(value):
            raise ValueError(
                f"cluster.address is {value!r}: use 'auto', 'local' or host:port, as ray start printed it, with a port "
                f"from 1 to {MAX_PORT}"
            )
        return value


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
    def plugins(self) -> tuple[NamedPlugin, ...]:
        """The plug-ins that the run names."""
        named = (
            (REWARDS, self.reward.design, self.reward.arguments),
            (PROMPT_STYLES, self.prompt.style, self.prompt.arguments),
            (DATA_SOURCES, self.data.source, self.data.arguments),
        )
        return tuple(
            NamedPlugin(kind=kind, name=name, arguments=arguments)
            for kind, name, arguments in named
            if kind.is_plugin(name)
        )

    @property
    def warm_start_seed(self) -> int:
        return self.run.seed if self.warm_start.seed is None else self.warm_start.seed

    @property
    def max_prompt_tokens(self) -> int:
        """Tokens that the context leaves for the prompt after the longest completion."""
        return self.model.max_context_tokens - self.rollout.max_new_tokens

    @property
    def asks_for_gpus(self) -> bool:
        return self.rollout.num_gpus > 0 or self.learner.num_gpus > 0

    @property
    def num_pairs(self) -> int:
        """Number of engines and learner ranks that share GPUs two by two, a pair on each; 0 where they don't."""
        shares = self.rollout.num_gpus, self.learner.num_gpus
        is_shared = min(shares) > 0 and sum(shares) <= 1 + GPU_SHARE_ROUNDING
        return self.learner.num_ranks if is_shared and self.rollout.num_actors == self.learner.num_ranks else 0

    @property
    def start_limit_s(self) -> float:
        """Seconds that actors may take to be placed and ready."""
        if self.cluster.start_timeout_s is not None:
            return self.cluster.start_timeout_s
        return GPU_START_LIMIT_S if self.asks_for_gpus else START_LIMIT_S

    @model_validator(mode="after")
    def _ranks_share_gpus_in_pairs(self) -> Self:
        learner = self.learner
        if learner.num_ranks > 1 and 0 < learner.num_gpus < 1 and self.num_pairs == 0:
            raise ValueError(
                f"learner.num_gpus is {learner.num_gpus:g} for {learner.num_ranks} ranks, which share GPUs only in "
                f"pairs of one engine and one rank: set rollout.num_actors={learner.num_ranks} and shares that add up "
                "to at most 1, as in rollout.num_gpus=0.5 learner.num_gpus=0.5, or learner.num_gpus=1"
            )
        return self

    @model_validator(mode="after")
    def _proof_is_of_memory_alone(self) -> Self:
        if self.reward.design == "proof" and self.run.name != NAME_OF_PROOF:
            raise ValueError(
                "reward.design is 'proof', which does not reward SQL and is for make prove-24gb alone: "
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
    def _engine_holds_the_sequences(self) -> Self:
        context_tokens, new_tokens = self.model.max_context_tokens, self.rollout.max_new_tokens
        if new_tokens >= context_tokens:
            raise ValueError(
                f"rollout.max_new_tokens is {new_tokens}, but model.max_context_tokens is {context_tokens}, which "
                "leaves nothing for the prompt: lower the one or raise the other"
            )
        if self.rollout.max_num_seqs > max(MIN_BATCHED_TOKENS, context_tokens):
            raise ValueError(
                f"rollout.max_num_seqs is {self.rollout.max_num_seqs}, but vLLM takes no more at a time than tokens, "
                f"{max(MIN_BATCHED_TOKENS, context_tokens)}: lower it, or raise model.max_context_tokens"
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
