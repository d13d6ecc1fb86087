"""Sections that say what a candidate is worth: the comparator, its limits, and the settings of the reward designs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from floe.configs.plugins.arguments import Arguments
from floe.configs.plugins.kinds import REWARDS
from floe.configs.sections.addresses import has_credentials, is_address
from floe.configs.sections.bounds import MAX_BYTES, MAX_COUNT, MAX_FACTOR, MAX_PARALLEL, MAX_S, refused_resources
from floe.configs.sections.learning_sections import Section
from floe.configs.sections.resume_rule import Fixed, Free

AUTO_CLOCK = "auto"


def instant_of(value: object) -> str:
    """Return an instant in UTC as `2026-11-30 12:00:00`; ISO 8601 may have an offset. Raises ValueError."""
    try:
        instant = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        in_utc = instant.astimezone(UTC) if instant.tzinfo else instant
        return in_utc.replace(tzinfo=None).isoformat(" ", "seconds")
    except (ValueError, OverflowError):
        raise ValueError(
            f"is {str(value)[:80]!r}, which is not a point in time: give one as '2026-11-30 12:00:00' (UTC)"
        ) from None


class RewardSection(Section):
    design: Fixed[Annotated[str, AfterValidator(REWARDS.checked_name)]] = Field(
        "arctic",
        description="What a verdict is worth in training: `arctic`, `sql_r1`, `reasoning_sql`, `graph_reward`, or a "
        "plug-in as `package.module:Name` or by its entry point's name; `proof` rewards nothing of SQL and is for "
        "`make prove-24gb` alone.",
    )
    arguments: Fixed[Arguments] = Field({}, description="Keyword arguments of a design that is a plug-in.")
    semantics: Fixed[Literal["bird", "spider", "strict"]] = "bird"
    suite: Fixed[Path | None] = Field(
        None, description="Folder of `<db_id>/*.sqlite`, further contents that `spider` semantics judge on as well."
    )
    empty_gold: Fixed[Literal["score", "skip", "down_weight"]] = Field(
        "score", description="For golds that return no rows: `skip` gives no reward, `down_weight` less for a match."
    )
    empty_gold_weight: Fixed[float] = Field(
        0.5,
        ge=0.1,
        le=1,
        description="Reward of a match where every gold is empty, for `down_weight`; a mismatch gets 0.1.",
    )
    num_workers: Free[int] = Field(2, ge=1, le=MAX_PARALLEL)
    time_limit_s: Fixed[float] = Field(5.0, gt=0, le=MAX_S, description="CPU seconds of one candidate.")
    max_rows: Fixed[int] = Field(500_000, ge=1, le=MAX_COUNT)
    max_result_bytes: Fixed[int] = Field(64 * 2**20, ge=1024, le=MAX_BYTES)
    max_memory_bytes: Fixed[int] = Field(
        256 * 2**20, ge=2**20, le=MAX_BYTES, description="SQLite heap of one executor child, and its temporary files."
    )
    max_cell_bytes: Fixed[int] = Field(
        64 * 2**20,
        ge=1024,
        le=2**31 - 1,
        description="Largest value, those that a statement computes on its way included.",
    )
    max_sql_bytes: Fixed[int] = Field(1_000_000, ge=100, le=10**9, description="SQLite's default, as the three below.")
    max_expression_depth: Fixed[int] = Field(1000, ge=10, le=1000, description="A chain of n ANDs or ORs is n deep.")
    max_compound_selects: Fixed[int] = Field(500, ge=2, le=500)
    max_like_pattern_bytes: Fixed[int] = Field(50_000, ge=100, le=50_000)
    float_tolerance: Fixed[float] = Field(
        0.0,
        ge=0,
        le=1,
        description="Relative; where a result has a 0, floats so close to 0 are 0 too. 0 compares exactly.",
    )
    clock: Fixed[str] = Field(
        AUTO_CLOCK,
        description="What SQL gets for 'now', in UTC, as 2026-11-30 12:00:00. `auto`: what `floe prepare` has written "
        "into the folder, else the start of the run.",
    )
    num_cpus: Free[float] = Field(0.25, ge=0, le=MAX_PARALLEL, description="Ray CPUs reserved per worker.")
    stuck_after_s: Free[float] = Field(
        120.0,
        gt=0,
        le=MAX_S,
        description="A worker that gives no answer for so long, in addition to twice its groups' time limits, is "
        "replaced.",
    )

    design_time_limit_s: Fixed[float] = Field(
        2.0,
        gt=0,
        le=MAX_S,
        description="CPU seconds that a design may take to read one query; what takes longer has no form.",
    )
    arctic_format_floor: Fixed[bool] = Field(
        False,
        description="The successor recipe's: a well-formed reply gets at least 0.1, also where its SQL fails.",
    )
    sql_r1_variant: Fixed[Literal["paper", "code"]] = Field(
        "code", description="`code` pays the length term to right answers alone, `paper` to every well-formed one."
    )
    reasoning_execution_weight: Fixed[float] = Field(3.0, ge=0, le=MAX_FACTOR, description="Terms of `reasoning_sql`.")
    reasoning_judge_weight: Fixed[float] = Field(2.0, ge=0, le=MAX_FACTOR, description="0 asks no judge.")
    reasoning_syntax_weight: Fixed[float] = Field(1.0, ge=0, le=MAX_FACTOR)
    reasoning_schema_weight: Fixed[float] = Field(1.0, ge=0, le=MAX_FACTOR)
    reasoning_ngram_weight: Fixed[float] = Field(1.0, ge=0, le=MAX_FACTOR)
    reasoning_format_weight: Fixed[float] = Field(1.0, ge=0, le=MAX_FACTOR)
    reasoning_partial_terms: Fixed[Literal["full_when_right", "sum"]] = Field(
        "full_when_right",
        description="`full_when_right` grants a right query every partial term in full, so that no wrong one earns "
        "more; `sum` adds up what each term gives.",
    )
    judge_url: Free[str | None] = Field(None, description="OpenAI-compatible endpoint, as http://127.0.0.1:8000/v1.")
    judge_model: Fixed[str] = Field("", description="The name that the endpoint serves the judge under.")
    judge_key_variable: Free[str] = Field("", description="Environment variable with the key; empty: no key is sent.")
    judge_time_limit_s: Free[float] = Field(30.0, gt=0, le=MAX_S, description="Seconds of one request.")
    judge_num_retries: Free[int] = Field(2, ge=0, le=1000, description="Attempts after the first one has failed.")
    judge_num_parallel: Free[int] = Field(
        8, ge=1, le=MAX_PARALLEL, description="Requests at a time of each reward worker."
    )
    judge_max_cached: Free[int] = Field(
        100_000, ge=0, le=MAX_COUNT, description="Judgements that each reward worker remembers."
    )
    graph_network: Fixed[Path | None] = Field(None, description="Folder that `floe train-graph-reward` wrote.")
    graph_outcome_weight: Fixed[float] = Field(
        1.0, ge=0, le=MAX_FACTOR, description="Weight of the graph matching network's score."
    )
    graph_stepwise_weight: Fixed[float] = Field(
        0.0, ge=0, le=MAX_FACTOR, description="Weight of the stepwise CTE matching; needs no network."
    )
    graph_stepwise_variant: Fixed[Literal["precise", "published"]] = Field(
        "precise", description="`precise` takes off for what the gold lacks, `published` does not."
    )

    @field_validator("clock", mode="before")
    @classmethod
    def _an_instant(cls, value: object) -> object:
        """Return the instant as text: YAML reads one without quotes as a date."""
        try:
            return value if value == AUTO_CLOCK else instant_of(value)
        except ValueError as fault:
            raise ValueError(f"reward.clock {fault}, or auto") from None

    @model_validator(mode="after")
    def _arguments_are_a_plugins(self) -> Self:
        if why := REWARDS.refused_arguments(self.design, self.arguments):
            raise ValueError(why)
        return self

    @model_validator(mode="after")
    def _a_suite_is_judged_by_spider(self) -> Self:
        if self.suite is not None and self.semantics != "spider":
            raise ValueError(
                f"reward.suite is set but reward.semantics is '{self.semantics}', which judges on one database: "
                "set reward.semantics=spider, or leave out the suite"
            )
        return self

    @model_validator(mode="after")
    def _a_judge_has_an_address(self) -> Self:
        if self.asks_judge and not (self.judge_url and self.judge_model):
            raise ValueError(
                "reward.design is 'reasoning_sql' with a judge, but reward.judge_url or reward.judge_model is not set: "
                "give both, as in reward.judge_url=http://127.0.0.1:8000/v1 reward.judge_model=NAME, or set "
                "reward.reasoning_judge_weight=0"
            )
        return self

    @field_validator("judge_url")
    @classmethod
    def _an_address_of_the_web(cls, value: str | None) -> str | None:
        if value is not None and has_credentials(value):
            raise ValueError(
                "reward.judge_url holds a name or password, which would be written to the run folder: take it out, put "
                "the key into a variable and name that with reward.judge_key_variable"
            )
        if value is not None and (not is_address(value) or urlsplit(value).scheme not in ("http", "https")):
            raise ValueError(
                f"reward.judge_url is {value!r}, which is not the address of an endpoint: give one as http://127.0.0.1:8000/v1"
            )
        return value

    @field_validator("judge_key_variable")
    @classmethod
    def _names_a_variable(cls, value: str) -> str:
        if value and not (value.isascii() and value.isidentifier()):
            raise ValueError(
                f"reward.judge_key_variable is {value!r}, which is not the name of a variable: name the variable that "
                "holds the key, not the key itself"
            )
        return value

    @model_validator(mode="after")
    def _ray_can_reserve_it(self) -> Self:
        if why := refused_resources("reward", num_cpus=self.num_cpus):
            raise ValueError(why)
        return self

    @property
    def asks_judge(self) -> bool:
        return self.design == "reasoning_sql" and self.reasoning_judge_weight > 0

    @model_validator(mode="after")
    def _graphs_need_a_network(self) -> Self:
        if self.design != "graph_reward":
            return self
        if self.graph_outcome_weight > 0 and self.graph_network is None:
            raise ValueError(
                "reward.design is 'graph_reward' with an outcome term, but reward.graph_network is not set: give the "
                "folder that floe train-graph-reward wrote, or set reward.graph_outcome_weight=0"
            )
        if self.graph_outcome_weight == 0 and self.graph_stepwise_weight == 0:
            raise ValueError(
                "reward.graph_outcome_weight and reward.graph_stepwise_weight are both 0, so every answer would earn "
                "nothing: give one of them a weight"
            )
        if self.empty_gold != "score":
            raise ValueError(
                f"reward.empty_gold is '{self.empty_gold}', but reward.design 'graph_reward' runs no gold, so that it "
                "can't know which is empty: set reward.empty_gold=score"
            )
        return self
