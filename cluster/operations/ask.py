"""`floe ask`: a policy's SQL for a question about one database, and the rows that it returns."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from floe.actors.databases.database_files import fault_of_file
from floe.actors.questions.random_streams import stream_seed
from floe.actors.sources.built_databases import BuiltDatabases
from floe.actors.sources.run_sets import SQLITE
from floe.cluster.databases.single_database import SingleDatabase, single_database
from floe.cluster.evaluation.answer_table import Asked
from floe.cluster.exports.adapter_base import other_base_warning
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.messages import Completion, GroupRequest, Outcome, QueryResult, Question
from floe.cluster.models.model_folder import model_folder
from floe.cluster.operations.time_planning import limited_to_machine
from floe.cluster.precision.resolved import with_precision, with_recorded_precision
from floe.cluster.questions.fitting import encoder_of_run
from floe.cluster.ray_actors.placement import check_resources, ray_session, start_rollout_pool, stored_adapter
from floe.cluster.terminal.progress import Progress, make_console
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig
from floe.reward_service.sandbox.result_reader import ResultReader
from floe.reward_service.sql_text.own_extraction import NO_SQL, NoAnswer, extraction_of

EXIT_CODE_NO_ROWS = 3
MAX_ROWS = 20  # shown of a result
QUESTION_ID = "asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskOptions:
    """Options of the command; `adapter` is a PEFT folder, None for the base model."""

    question: str
    database: Path
    adapter: Path | None
    evidence: str = ""
    as_json: bool = False
    max_rows: int = MAX_ROWS  # of the answer


def ask(config: RunConfig, options: AskOptions) -> int:
    """Print the SQL and its rows on stdout; progress and an error of the SQL go to stderr.

    The exit code is 0, or 3 when the SQL could not be run to its end. Raises UserError as `answered` does.
    """
    asked = answered(config, options, Progress(make_console(stderr=True)))
    if options.as_json:
        print(asked.to_json(), end="")
    else:
        asked.render(make_console())
        if fault := asked.fault():
            make_console(stderr=True).print(fault, markup=False, soft_wrap=True)
    return EXIT_CODE_NO_ROWS if asked.fault() else 0


def answered(config: RunConfig, options: AskOptions, progress: Progress) -> Asked:
    """Return the policy's SQL and what it returned. Raises UserError for bad input."""
    if not options.question.strip():
        raise UserError("The question is empty: write what you want to know of the database.")
    if options.adapter is not None and not options.adapter.is_dir():
        raise UserError(f"There is no adapter folder {options.adapter}: give one written by PEFT or floe, or a run's.")
    with single_database(_sqlite_file(config, options.database, progress)) as database:
        answer_start, completion = _complete(_of_one_engine(config), database, options, progress)
        text = answer_start + completion.text
        sql, why = _sql_of(config, text)
        return Asked(
            question=options.question,
            database=str(options.database),
            adapter=None if options.adapter is None else str(options.adapter),
            sql=sql,
            completion=text,
            is_truncated=completion.truncated,
            result=_run(config, database, sql, why, options.max_rows),
        )


def _sqlite_file(config: RunConfig, given: Path, progress: Progress) -> Path:
    """Return the file, or the one that is built of it where the run has databases of another kind."""
    source = given.expanduser().resolve()
    if config.data.database_kind == SQLITE or not source.exists() or fault_of_file(source) is None:
        return given
    name = source.name if source.is_dir() else source.stem
    return BuiltDatabases(config.data, config.run.home_dir, config.run.plugin_folder, progress.note).file(source, name)


def _of_one_engine(config: RunConfig) -> RunConfig:
    """Return the configuration for an engine alone: the machine need not have room for what training needs."""
    changes = {
        "rollout": config.rollout.model_copy(update={"num_actors": 1}),
        "reward": config.reward.model_copy(update={"num_workers": 1, "num_cpus": 0.0}),
        "learner": config.learner.model_copy(update={"num_ranks": 1, "num_cpus": 0.0, "num_gpus": 0.0}),
    }
    return config.model_copy(update=changes)


def _complete(
    config: RunConfig, database: SingleDatabase, options: AskOptions, progress: Progress
) -> tuple[str, Completion]:
    """Return the answer's start and its greedy continuation, for the prompt that training would have made."""
    progress.phase("set-up")
    model_dir = model_folder(config, config.run.home_dir / "demo")
    if options.adapter and (warning := other_base_warning(options.adapter, config.model.path, model_dir)):
        progress.note(warning)
    decided = with_precision(with_recorded_precision(config, options.adapter), lambda: shape_of(config))
    progress.note(decided.line)
    config = limited_to_machine(decided.config, progress)
    question = Question(
        question_id=QUESTION_ID,
        database_id=database.database_id,
        text=options.question,
        gold_sql=(),
        evidence=options.evidence,
    )
    encoder = encoder_of_run(config, model_dir, database.databases_dir)
    prompt = encoder.encoded(question)
    if prompt.refused:
        raise UserError(
            f"The question's prompt has {prompt.num_tokens:,} tokens, and {config.max_prompt_tokens:,} fit: "
            "raise model.max_context_tokens, or ask about a database with fewer tables."
        )
    request = GroupRequest(
        group_id=QUESTION_ID,
        question=question,
        prompt_token_ids=prompt.token_ids,
        num_samples=1,
        temperature=0.0,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=stream_seed(config.run.seed, "greedy", QUESTION_ID),
    )
    with ray_session(config.cluster, namespace="floe-ask") as line:
        progress.note(line)
        check_resources(config)
        rollouts = start_rollout_pool(config, model_dir)
        version = None
        if options.adapter is not None:
            rollouts.install(stored_adapter(config, options.adapter))
            version = 0
        progress.phase(f"answer to a prompt of {prompt.num_tokens:,} tokens")
        (group,) = rollouts.generate([request], version)
        return encoder.answer_start, group.completions[0]


def _sql_of(config: RunConfig, completion: str) -> tuple[str | None, str]:
    """Return the SQL, as training would take it, and why there is none."""
    try:
        return extraction_of(config.prompt, config.run.plugin_folder)(completion), NO_SQL
    except NoAnswer as why:
        return None, str(why)


def _run(config: RunConfig, database: SingleDatabase, sql: str | None, why: str, max_rows: int) -> QueryResult:
    """Run the SQL under the limits of judging, and read-only as there; `why` says why there is none."""
    if sql is None:
        return QueryResult(outcome=Outcome.NO_SQL, message=why)
    with closing(ResultReader(database.databases_dir, config.reward, max_rows)) as reader:
        return reader.read(database.database_id, [sql])[0]
