"""The rows of a table before anything is asked: questions, prompts, configuration, and the key of each cell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from xxhash import xxh3_128_hexdigest

from floe.cluster.benchmark_table.cell_store import CellKey
from floe.cluster.benchmark_table.data_sets import data_set
from floe.cluster.benchmark_table.table_file import Benchmark, Policy
from floe.cluster.checkpoints.inputs import adapter_digest, model_digest
from floe.cluster.evaluation.asked_questions import Asked, advice, asked_of_questions
from floe.cluster.evaluation.records import evaluation_identity
from floe.cluster.exports.run_adapters import find_adapter
from floe.cluster.preflight.initial_adapter import check_initial_adapter
from floe.cluster.run_folder.layout import is_run
from floe.cluster.terminal.progress import Progress
from floe.configs.errors import ConfigError, LostError, UserError, is_stop
from floe.configs.schema import PromptSection, RunConfig
from floe.configs.sections.reward_sections import RewardSection

# Fields of the reward section that say how an answer is judged; others are of waits, workers and reward designs.
JUDGING = (
    "semantics", "suite", "time_limit_s", "max_rows", "max_result_bytes", "max_memory_bytes", "max_cell_bytes",
    "max_sql_bytes", "max_expression_depth", "max_compound_selects", "max_like_pattern_bytes", "float_tolerance",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A data set that can be asked, or the sentence that says why it can't be."""

    benchmark: Benchmark
    config: RunConfig
    asked: Asked | None = None
    notes: tuple[str, ...] = ()
    fault: str | None = None

    @property
    def name(self) -> str:
        return self.benchmark.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A policy. `identity` are the parts of a cell's key that it decides; `fault` says why it can't be asked."""

    policy: Policy
    adapter: Path | None = None
    model: str = ""
    digest: str = ""
    fault: str | None = None

    @property
    def name(self) -> str:
        return self.policy.name


def row_of(config: RunConfig, model_dir: Path, benchmark: Benchmark, progress: Progress) -> Row:
    """Return the row of a data set; one that is missing or broken gets its sentence, and stops nothing else."""
    try:
        of_set = config_of(config, benchmark)
        found = data_set(benchmark)
        if of_set.reward.suite is not None and not of_set.reward.suite.is_dir():
            raise UserError(f"There is no suite folder {of_set.reward.suite}: give one of <db_id>/*.sqlite.")
        if found.clock is not None and benchmark.clock is None:
            of_set = with_clock_of(of_set, found.clock)
        progress.note(f"{benchmark.name}: {len(found.questions)} questions, databases {found.databases_dir}")
        advised = () if found.found is None else advice(found.found, of_set)
        for note in (*advised, *found.notes):
            progress.note(note)
        asked = asked_of_questions(of_set, model_dir, progress, found.questions, found.databases_dir)
        return Row(benchmark=benchmark, config=of_set, asked=asked, notes=found.notes)
    except (UserError, OSError) as fault:
        if is_stop(fault) or isinstance(fault, LostError):
            raise
        return Row(benchmark=benchmark, config=config, fault=sentence_of(fault))


def config_of(config: RunConfig, benchmark: Benchmark) -> RunConfig:
    """Return the configuration with what the data set has otherwise. Raises ConfigError for what can't be."""
    judged: dict[str, Any] = {
        name: value for name in ("semantics", "suite", "clock") if (value := getattr(benchmark, name)) is not None
    }
    if judged.get("semantics", "spider") != "spider" and "suite" not in judged:
        judged["suite"] = None  # the configuration's, which only spider's semantics use
    shown = benchmark.prompt.model_dump(exclude_none=True)
    try:
        reward = RewardSection.model_validate(config.reward.model_dump() | judged)
        prompt = PromptSection.model_validate(config.prompt.model_dump() | shown)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = str(first.get("ctx", {}).get("error", first["msg"])).rstrip(".")
        raise ConfigError(f"The benchmark '{benchmark.name}' can't be judged so: {reason}.") from None
    return config.model_copy(update={"reward": reward, "prompt": prompt})


def with_clock_of(config: RunConfig, clock: str) -> RunConfig:
    return config.model_copy(update={"reward": config.reward.model_copy(update={"clock": clock})})


def column_of(config: RunConfig, model_dir: Path, policy: Policy) -> Column:
    """Return the column of a policy; one whose adapter is missing gets its sentence. A run stands for its adapter."""
    try:
        if policy.endpoint is not None:
            policy.endpoint.key()  # a missing one is told before anything is asked
            return Column(policy=policy, model=f"{policy.endpoint.name} by {policy.endpoint.api}")
        model = f"{config.model.path} in {config.rollout.dtype}, {model_digest(model_dir, config.run.home_dir)}"
        if policy.adapter is None:
            return Column(policy=policy, model=model)
        folder = policy.adapter
        if not folder.is_dir():
            raise UserError(f"There is no adapter folder {folder}: give one written by PEFT or floe.")
        folder = find_adapter(folder, None).folder if is_run(folder) else folder
        check_initial_adapter(config, folder, model_dir)  # a wrong one is told before an engine starts
        digest = adapter_digest(folder, config.run.home_dir)
        return Column(policy=policy, adapter=folder, model=model, digest=digest)
    except (UserError, OSError) as fault:
        if is_stop(fault):
            raise
        return Column(policy=policy, fault=sentence_of(fault))


def key_of(row: Row, column: Column) -> CellKey:
    """Return what the evaluation of a cell depends on. `row` has no fault."""
    config, asked = row.config, row.asked
    assert asked is not None
    identity = evaluation_identity(config, asked.encoder, asked.databases_dir, asked.questions, None)
    # The prompts' digest does not say which of them are too long to be asked.
    lengths = f"context of {config.model.max_context_tokens}"
    answers = f"{identity.num_samples} at {identity.temperature:g}, {identity.max_new_tokens} tokens, {lengths}"
    return CellKey(
        harness_version=identity.harness_version,
        questions=identity.questions_digest,
        prompts=identity.prompt_digest,
        databases=identity.databases_digest,
        comparator=identity.comparator,
        clock=config.reward.clock,
        answers=f"{answers}, seed {identity.seed}",
        model=column.model,
        adapter=column.digest,
        configuration=_digest(_other_settings(config, column)),
    )


def _other_settings(config: RunConfig, column: Column) -> Mapping[str, Any]:
    lora = config.lora.model_dump(mode="json", include={"rank", "alpha"}) if column.adapter is not None else {}
    return {
        # The style says where an answer ends; what else the section decides is in the prompts' own digest.
        "prompt": config.prompt.model_dump(mode="json", include={"style", "arguments"}),
        "family": [config.model.family, config.model.family_arguments],
        "reward": config.reward.model_dump(mode="json", include=set(JUDGING)),
        "lora": lora,
    }


def _digest(value: Mapping[str, Any]) -> str:
    return xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode("utf-8", "surrogatepass"))


def sentence_of(fault: BaseException) -> str:
    """Return a fault's text in one line."""
    if isinstance(fault, OSError) and fault.filename is not None:
        return f"Can't read {fault.filename} ({fault.strerror}): check it."
    return " ".join(str(fault).split()) or type(fault).__name__


def names_of(parts: Sequence[Row | Column]) -> tuple[str, ...]:
    return tuple(one.name for one in parts)
