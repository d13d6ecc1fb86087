"""Sections of what a run works on: the model, the questions and databases, and the prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from floe.configs.plugins.arguments import Arguments
from floe.configs.plugins.kinds import DATA_SOURCES, DATABASE_KINDS, FAMILIES, PROMPT_STYLES
from floe.configs.sections.bounds import MAX_COUNT, MAX_TOKENS
from floe.configs.sections.learning_sections import Section
from floe.configs.sections.resume_rule import Fixed, Free
from floe.configs.sections.source_section import SourceSection, fault_of_sources

STYLES_OF_NAMES = ("compact", "tagged")  # they show no types, comments or values


class ModelSection(Section):
    path: Fixed[str] = Field(
        "embedded:smollm2-135m-instruct",
        description="`embedded:smollm2-135m-instruct`, `embedded:tiny-qwen2`, a local folder or a hub name.",
    )
    dtype: Fixed[Literal["auto", "bfloat16", "float32"]] = Field(
        "auto", description="The learner computes in it; `auto` is decided at the start by what is measured as fast."
    )
    family: Fixed[Annotated[str, AfterValidator(FAMILIES.checked_name)]] = Field(
        "auto",
        description="What differs in the model's family: `auto`, or a plug-in as `package.module:Name` or by its entry "
        "point's name.",
    )
    family_arguments: Fixed[Arguments] = Field({}, description="Keyword arguments of a family that is a plug-in.")
    max_context_tokens: Fixed[int] = Field(
        1024, ge=32, le=MAX_TOKENS, description="Longest prompt plus completion, in tokens."
    )

    @field_validator("path")
    @classmethod
    def _names_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("model.path is empty: give a model's folder, its name on the hub, or leave it out")
        return value

    @model_validator(mode="after")
    def _arguments_are_a_plugins(self) -> Self:
        if why := FAMILIES.refused_arguments(self.family, self.family_arguments):
            raise ValueError(why)
        return self


class DataSection(Section):
    source: Fixed[Annotated[str, AfterValidator(DATA_SOURCES.checked_name)]] = Field(
        "demo",
        description="`demo`: six made databases; `files`: data.questions, data.databases; `prepared`: data.prepared; "
        "`mixed`: data.sources; or a plug-in as `package.module:Name` or by its entry point's name.",
    )
    arguments: Fixed[Arguments] = Field({}, description="Keyword arguments of a source that is a plug-in.")
    prepared: Fixed[Path | None] = Field(None, description="Folder that `floe prepare` wrote.")
    sources: Fixed[tuple[SourceSection, ...]] = Field(
        (),
        description="Folders that `floe prepare` wrote, mixed in every step: each with `path`, and optionally `name`, "
        "`weight`, `semantics`, `suite` and `repeat`. Given, data.source is `mixed`.",
    )
    questions: Fixed[Path | None] = Field(None, description="Training questions: Spider- or BIRD-layout JSON.")
    databases: Fixed[Path | None] = Field(
        None, description="Folder of `<db_id>/<db_id>.sqlite`, or of what data.database_kind says."
    )
    database_kind: Fixed[Annotated[str, AfterValidator(DATABASE_KINDS.checked_name)]] = Field(
        "sqlite",
        description="`sqlite`; `csv`: folders `<db_id>` with a CSV file for each table, of which SQLite files are "
        "made; or a plug-in as `package.module:Name` or by its entry point's name.",
    )
    database_arguments: Fixed[Arguments] = Field({}, description="Keyword arguments of a kind that is a plug-in.")
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
    sampler: Fixed[Literal["uniform", "middle", "posterior"]] = Field(
        "uniform",
        description="`middle` prefers training questions whose measured pass rate is near one half; `posterior` those "
        "whose rate is believed to be, from the run's own rollouts.",
    )
    exploration_share: Fixed[float] = Field(
        0.1,
        gt=0,
        le=1,
        description="Share of the `posterior` draws that is uniform, so that each question has a chance.",
    )
    evidence_discount: Fixed[float] = Field(
        0.97, gt=0, le=1, description="Factor by which a step's rollouts count less with each later step (`posterior`)."
    )
    max_measured_samples: Fixed[int] = Field(
        8, ge=0, le=MAX_COUNT, description="Most candidates that a measured pass rate counts as (`posterior`)."
    )
    max_train_questions: Fixed[int] = Field(
        100_000, ge=1, le=MAX_COUNT, description="Most questions to train on; of more, so many are drawn."
    )
    max_eval_questions: Free[int] = Field(
        100_000, ge=1, le=MAX_COUNT, description="Most questions of each split that is held back."
    )

    @property
    def is_mixture(self) -> bool:
        """Answer whether questions come from several sources; a single one is asked as its folder alone."""
        return len(self.sources) > 1

    @model_validator(mode="before")
    @classmethod
    def _sources_are_mixed(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("sources") and "source" not in values:
            return values | {"source": "mixed"}
        return values

    @model_validator(mode="after")
    def _a_mixture_has_sources(self) -> Self:
        if self.source == "mixed" and not self.sources:
            raise ValueError(
                "data.source is 'mixed' but data.sources is not set: give folders that floe prepare wrote, as in "
                "data.sources='[{path: bird, weight: 2}, {path: spider, weight: 1}]'"
            )
        if self.source != "mixed" and self.sources:
            raise ValueError(
                f"data.sources is set but data.source is '{self.source}': set data.source=mixed, or leave one of them "
                "out"
            )
        if why := fault_of_sources(self.sources):
            raise ValueError(why)
        return self

    @model_validator(mode="after")
    def _arguments_are_a_plugins(self) -> Self:
        why = DATA_SOURCES.refused_arguments(self.source, self.arguments)
        if why := why or DATABASE_KINDS.refused_arguments(self.database_kind, self.database_arguments):
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
        if self.source not in ("prepared", "mixed") and (self.filter_by_pass_rate or self.sampler == "middle"):
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
    trim_keeps_gold: Fixed[bool] = Field(
        False,
        description="Keep the gold's columns in training prompts that lose columns; otherwise these are trimmed as in "
        "evaluation, and questions that lose a column of their gold are not trained on.",
    )

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
