"""`floe score` on the command line."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from floe.cluster.commands.paths import given_path
from floe.cluster.environment import environment_overrides
from floe.configs.files.complaints import fields_of
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig


def score(
    questions: Annotated[Path, typer.Option(parser=given_path, help="Spider- or BIRD-layout JSON, or JSON lines.")],
    databases: Annotated[
        Path, typer.Option(parser=given_path, help="Folder of <db_id>/<db_id>.sqlite, or of --database-kind.")
    ],
    predictions: Annotated[
        Path, typer.Option(parser=given_path, help="JSON lines or array, or the file of BIRD or Spider.")
    ],
    reward: Annotated[
        str | None,
        typer.Option(help="Design: arctic (default), sql_r1, reasoning_sql, graph_reward, or package.module:Name."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="reward.FIELD=VALUE, or reward.arguments.NAME=VALUE of a plug-in.")
    ] = None,
    database_kind: Annotated[
        str | None, typer.Option(help="sqlite (default), csv (folders <db_id> of CSV files), or package.module:Name.")
    ] = None,
    semantics: Annotated[str | None, typer.Option(help="bird (default), spider or strict.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="CPU seconds of one candidate.")] = None,
    workers: Annotated[int | None, typer.Option(help="Candidates scored at a time.")] = None,
    float_tolerance: Annotated[float | None, typer.Option(help="Relative; 0 compares exactly.")] = None,
    empty_gold: Annotated[str | None, typer.Option(help="score (default), skip or down_weight.")] = None,
    suite: Annotated[
        Path | None, typer.Option(parser=given_path, help="Further contents, <db_id>/*.sqlite, for spider.")
    ] = None,
    clock: Annotated[str | None, typer.Option(help="What SQL gets for 'now', in UTC; else the present time.")] = None,
    allow_missing_databases: Annotated[
        bool, typer.Option(help="Such predictions end as infrastructure, without a reward.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines and nothing else on stdout.")] = False,
) -> None:
    """Score given SQL by running it; needs no model. Ends with 3 when a prediction could not be judged."""
    options = {
        "design": reward,
        "semantics": semantics,
        "time_limit_s": time_limit,
        "num_workers": workers,
        "float_tolerance": float_tolerance,
        "empty_gold": empty_gold,
        "suite": None if suite is None else str(suite),
        "clock": clock,
    }
    given = [f"reward.{field}={json.dumps(value)}" for field, value in options.items() if value is not None]
    if database_kind is not None:
        given.append(f"data.database_kind={database_kind}")
    resolved = load_config(None, [*environment_overrides(), *given, *map(_whole_key, overrides or ())])
    raise typer.Exit(_scored(resolved, questions, databases, predictions, as_json, allow_missing_databases))


def _whole_key(override: str) -> str:
    """Return the override with its section: `penalty` of the reward may be given without one."""
    first = override.partition("=")[0].partition(".")[0].strip()
    return f"reward.{override}" if first in fields_of("reward") and first not in RunConfig.model_fields else override


def _scored(
    config: RunConfig, questions: Path, databases: Path, predictions: Path, as_json: bool, allow_missing_databases: bool
) -> int:
    """Return the exit code."""
    from floe.actors.sources.run_sets import database_folder
    from floe.cluster.operations import score as operation
    from floe.cluster.plugins.checks import check_plugins

    check_plugins(config)
    folder = config.run.plugin_folder
    return operation.score(
        questions,
        databases,
        predictions,
        config.reward,
        as_json,
        allow_missing_databases,
        folder,
        config.prompt,
        database_folder(config.data, config.run.home_dir, folder, partial(typer.echo, err=True)),
    )
