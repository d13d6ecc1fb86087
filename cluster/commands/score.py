"""`floe score` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from floe.cluster.commands.paths import given_path
from floe.configs.files.loading import load_config


def score(
    questions: Annotated[Path, typer.Option(parser=given_path, help="Spider- or BIRD-layout JSON, or JSON lines.")],
    databases: Annotated[Path, typer.Option(parser=given_path, help="Folder of <db_id>/<db_id>.sqlite.")],
    predictions: Annotated[
        Path, typer.Option(parser=given_path, help="JSON lines or array, or the file of BIRD or Spider.")
    ],
    reward: Annotated[
        str | None,
        typer.Option(help="Design: arctic (default), sql_r1, reasoning_sql, graph_reward, or package.module:Name."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="reward.FIELD=VALUE, for the design's own settings.")
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
    resolved = load_config(None, [*given, *(overrides or ())])
    from floe.cluster.operations import score as operation
    from floe.cluster.plugins.checks import check_plugins

    check_plugins(resolved)
    code = operation.score(
        questions,
        databases,
        predictions,
        resolved.reward,
        as_json,
        allow_missing_databases,
        resolved.run.plugin_folder,
        resolved.prompt,
    )
    raise typer.Exit(code)
