"""The whole configuration of a run: typed, frozen, validated when it is made, light to import."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator

from floe.configs.plugins.kinds import DATA_SOURCES, DATABASE_KINDS, FAMILIES, PROMPT_STYLES, REWARDS, NamedPlugin
from floe.configs.sections.cluster_section import ClusterSection as ClusterSection
from floe.configs.sections.engine_batch import MIN_BATCHED_TOKENS
from floe.configs.sections.health_section import HealthSection
from floe.configs.sections.input_sections import DataSection as DataSection
from floe.configs.sections.input_sections import ModelSection as ModelSection
from floe.configs.sections.input_sections import PromptSection as PromptSection
from floe.configs.sections.learning_sections import (
    AlgorithmSection,
    LearnerSection,
    LoraSection,
    Section,
)
from floe.configs.sections.reward_sections import RewardSection
from floe.configs.sections.run_section import RunSection
from floe.configs.sections.sampling_sections import EvaluationSection, RolloutSection
from floe.configs.sections.warm_start_section import WarmStartSection

START_LIMIT_S = 300.0
GPU_START_LIMIT_S = 1800.0  # a first start on a GPU compiles the model and captures its graphs
GPU_SHARE_ROUNDING = 1e-9  # tolerance for sums of fractions
NAME_OF_PROOF = "prove-24gb"  # the design of the only run without a reward of SQL


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

    @model_validator(mode="before")
    @classmethod
    def _adapter_in_place_of_a_warm_start(cls, values: Any) -> Any:
        """Switch the warm start off where there is an initial adapter, unless `enabled` is set."""
        if not isinstance(values, dict):
            return values
        lora, warm_start = values.get("lora"), values.get("warm_start", {})
        adapter = lora.get("initial_adapter") if isinstance(lora, dict) else getattr(lora, "initial_adapter", None)
        if adapter is None:
            return values
        if isinstance(warm_start, dict):
            return values | {"warm_start": {"enabled": False} | warm_start}
        if isinstance(warm_start, WarmStartSection) and "enabled" not in warm_start.model_fields_set:
            return values | {"warm_start": warm_start.model_copy(update={"enabled": False})}
        return values

    @property
    def plugins(self) -> tuple[NamedPlugin, ...]:
        """The plug-ins that the run names."""
        named = (
            (REWARDS, self.reward.design, self.reward.arguments),
            (PROMPT_STYLES, self.prompt.style, self.prompt.arguments),
            (DATA_SOURCES, self.data.source, self.data.arguments),
            (DATABASE_KINDS, self.data.database_kind, self.data.database_arguments),
            (FAMILIES, self.model.family, self.model.family_arguments),
        )
        return tuple(
            NamedPlugin(kind=kind, name=name, arguments=arguments)
            for kind, name, arguments in named
            if kind.is_plugin(name)
        )

    @property
    def has_suite(self) -> bool:
        """Answer whether outcomes are over the databases of a suite, in a mixture those of every source."""
        default = self.reward.suite is not None
        if not self.data.sources:
            return default
        return all(default if one.semantics is None else one.suite is not None for one in self.data.sources)

    @property
    def semantics_in_words(self) -> str:
        """Semantics that results are compared by; with data.sources by source, and with which suite."""
        if not self.data.sources:
            return self.reward.semantics
        default = f"{self.reward.semantics}{' with a suite' if self.reward.suite else ''}"
        words = {
            one.label: default if one.semantics is None else f"{one.semantics}{' with a suite' if one.suite else ''}"
            for one in self.data.sources
        }
        if len(set(words.values())) == 1:
            return next(iter(words.values()))
        return ", ".join(f"{own} for {name}" for name, own in words.items())

    @property
    def warm_start_seed(self) -> int:
        return self.run.seed if self.warm_start.seed is None else self.warm_start.seed

    @property
    def draws_traces(self) -> bool:
        """Answer whether the supervised term of GRPO's steps is drawn from traces."""
        return self.algorithm.supervised_coefficient > 0 and self.algorithm.supervised_source == "traces"

    @property
    def needs_traces(self) -> bool:
        """Answer whether the run learns from traces, in its warm start or in the supervised term of its steps."""
        return self.draws_traces or (self.warm_start.enabled and self.warm_start.source == "traces")

    @property
    def starts_from_adapter(self) -> bool:
        """Answer whether GRPO's first step trains an adapter that has learned something."""
        return self.warm_start.enabled or self.lora.initial_adapter is not None

    @property
    def keeps_posterior(self) -> bool:
        """Answer whether the run estimates each question's pass rate from its own rollouts."""
        return self.data.sampler == "posterior" or self.rollout.has_unequal_groups

    @property
    def keeps_reference(self) -> bool:
        """Answer whether the learner holds a frozen copy of the adapter as the reference of the KL term."""
        algorithm = self.algorithm
        return algorithm.kl_coefficient > 0 and algorithm.kl_reference == "initial" and self.starts_from_adapter

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
    def _terms_can_be_normalised(self) -> Self:
        if self.algorithm.advantage_terms == "sum":
            return self
        if self.reward.design == "arctic":
            raise ValueError(
                "algorithm.advantage_terms is gdpo, which normalises the terms of a reward one by one, but "
                "reward.design arctic has no terms: set advantage_terms=sum, or a design with terms, as reasoning_sql"
            )
        if self.reward.empty_gold == "down_weight":
            raise ValueError(
                "algorithm.advantage_terms is gdpo, but reward.empty_gold is down_weight, which scales the whole "
                "reward and no term: set advantage_terms=sum, or empty_gold to score or skip"
            )
        return self

    @model_validator(mode="after")
    def _epochs_ask_each_question(self) -> Self:
        if self.run.num_epochs is not None and self.data.sampler != "uniform":
            raise ValueError(
                f"run.num_epochs is {self.run.num_epochs}, but data.sampler '{self.data.sampler}' draws the questions "
                "of each step from all of them, and some never come up: set data.sampler=uniform, or give "
                "run.num_steps in place of run.num_epochs"
            )
        return self

    @model_validator(mode="after")
    def _posterior_has_verdicts(self) -> Self:
        if self.keeps_posterior and self.reward.design == "graph_reward":
            what = (
                "data.sampler is 'posterior'" if self.data.sampler == "posterior" else "rollout.min_group_size is set"
            )
            raise ValueError(
                f"{what}, but reward.design 'graph_reward' runs no candidate, so that no pass rate is known: use "
                "another design, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _something_learns(self) -> Self:
        if self.run.known_num_steps == 0 and not self.warm_start.enabled:
            raise ValueError(
                "run.num_steps is 0, which is the supervised stage alone, but warm_start.enabled is false: set it to "
                "true, or give run.num_steps at least 1"
            )
        return self

    @model_validator(mode="after")
    def _epochs_have_no_weights(self) -> Self:
        if self.run.num_epochs is not None and any(one.weight is not None for one in self.data.sources):
            raise ValueError(
                f"run.num_epochs is {self.run.num_epochs}, but data.sources has weights, by which some questions come "
                "up more often than others: leave out the weights (repeat asks a source's questions more often), or "
                "give run.num_steps in place of run.num_epochs"
            )
        return self

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
    def _traces_are_described(self) -> Self:
        if self.needs_traces and self.warm_start.source != "traces":
            raise ValueError(
                "algorithm.supervised_source is 'traces', but warm_start.source 'golds' makes none: set "
                "warm_start.source=traces, which also holds with warm_start.enabled=false, or supervised_source=golds"
            )
        if self.needs_traces and self.prompt.style == "compact":
            raise ValueError(
                "warm_start.source is 'traces', but answers in prompt.style 'compact' have no thought: set "
                "prompt.style=tagged or arctic, or warm_start.source=golds"
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
