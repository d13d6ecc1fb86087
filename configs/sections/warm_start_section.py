"""Section of the warm start: the supervised stage before GRPO, on golds or traces."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from floe.configs.sections.bounds import MAX_COUNT, MAX_FACTOR, MAX_SEED, MAX_TEMPERATURE, MIN_TEMPERATURE
from floe.configs.sections.learning_sections import Section
from floe.configs.sections.resume_rule import Fixed


class WarmStartSection(Section):
    enabled: Fixed[bool] = Field(True, description="Whether a supervised stage on the golds precedes GRPO.")
    seed: Fixed[int | None] = Field(
        None,
        ge=0,
        le=MAX_SEED,
        description="Seed of its random streams; None: run.seed, so that runs of other seeds differ.",
    )
    learning_rate: Fixed[float] = Field(5e-4, gt=0, le=1, description="Highest learning rate of the warm start.")
    lora_dropout: Fixed[float] = Field(0.05, ge=0, lt=1, description="Dropout of the adapter in the warm start.")
    batch_questions: Fixed[int] = Field(32, ge=1, le=MAX_COUNT, description="Questions of one update.")
    batch_databases: Fixed[int] = Field(
        1,
        ge=1,
        le=MAX_COUNT,
        description="Databases that an update's questions come from, in equal shares; each schema is computed once.",
    )
    max_epochs: Fixed[float] = Field(4.0, gt=0, le=MAX_FACTOR, description="Most passes over the questions.")
    evals_per_epoch: Fixed[int] = Field(4, ge=1, le=MAX_COUNT, description="Held-back losses measured in a pass.")
    patience: Fixed[int] = Field(
        2, ge=1, le=MAX_COUNT, description="Held-back losses without a new best before stopping."
    )
    min_improvement: Fixed[float] = Field(
        0.0, ge=0, le=MAX_FACTOR, description="What counts as a new best, in nats per token."
    )
    max_train_questions: Fixed[int] = Field(
        100_000, ge=1, le=MAX_COUNT, description="Most training questions of the warm start."
    )
    max_held_back_questions: Fixed[int] = Field(
        200, ge=1, le=MAX_COUNT, description="Questions of the split `tune`, for the held-back loss."
    )
    max_held_back_per_database: Fixed[int | None] = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="Most of these from one database; left out, the first of the split whatever their databases.",
    )
    max_answer_tokens: Fixed[int | None] = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="The warm start ends with the batch that reaches so many answer tokens, where max_epochs comes "
        "later; left out, max_epochs alone decides.",
    )
    source: Fixed[Literal["golds", "traces"]] = Field(
        "golds",
        description="`traces`: whole answers with their thought, kept where their SQL executes right: the policy's "
        "own, sampled first, or those of the file `traces`.",
    )
    traces: Fixed[Path | None] = Field(
        None,
        description="Traces in JSON lines: `completion`, and `question_id`, or `question` and `database_id`. They are "
        "run and judged again.",
    )
    trace_samples: Fixed[int] = Field(8, ge=1, le=64, description="Answers sampled per question, to keep traces of.")
    trace_temperature: Fixed[float] = Field(
        0.8, ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE, description="Temperature that they are sampled at."
    )
    max_traces_per_question: Fixed[int] = Field(
        2,
        ge=1,
        le=MAX_COUNT,
        description="Most traces kept of a question: so many of a hard one, fewer of an easy one.",
    )

    @model_validator(mode="after")
    def _file_is_of_traces(self) -> Self:
        if self.traces is not None and self.source != "traces":
            raise ValueError(
                f"warm_start.traces is {self.traces}, but warm_start.source 'golds' reads no traces: set "
                "warm_start.source=traces, or leave out the file"
            )
        return self

    @model_validator(mode="after")
    def _each_database_has_a_share(self) -> Self:
        if self.batch_questions % self.batch_databases:
            raise ValueError(
                f"warm_start.batch_questions is {self.batch_questions}, which warm_start.batch_databases "
                f"{self.batch_databases} does not divide: an update takes as many questions from each of its "
                "databases; set batch_questions to a multiple"
            )
        return self
