"""`floe ablate` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floe.cluster.commands.paths import given_config, given_path
from floe.cluster.environment import environment_overrides
from floe.configs.errors import UserError


def ablate(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SECTION.FIELD=VALUE]...", help="Values that replace those of the file."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", parser=given_config, help="YAML configuration that all arms share.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(parser=given_path, help="Folder of the runs, the table and the plot; goes on with what it holds."),
    ] = None,
    rewards: Annotated[str, typer.Option(help="Reward designs, as arctic,sql_r1: an arm each.")] = "",
    variant: Annotated[
        list[str] | None, typer.Option(help="A further arm, as 'NAME: section.field=value ...'; several may be given.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each arm.")] = 1,
    records: Annotated[
        Path | None,
        typer.Option(
            parser=given_path,
            help="Folder of the finished arms' records (OUT/records): arms in it are not trained again. Without arms, "
            "the table is made of all records in it.",
        ),
    ] = None,
    first: Annotated[
        str,
        typer.Option(help="With --records alone: the arm that the others are compared with; else the first by name."),
    ] = "",
) -> None:
    """Train under several reward designs from one start with one budget of tokens, and compare what comes out."""
    if seeds < 1:
        raise UserError(f"--seeds is {seeds}, but each arm needs at least one run: give 1 or more.")
    from floe.cluster.operations import ablate as operation

    named = [name.strip() for name in rewards.split(",") if name.strip()]
    out = None if out is None else out.expanduser().resolve()
    if records is not None and not named and not variant:
        operation.show_records(records.expanduser().resolve(), out, first)
        return
    if first:
        raise UserError("--first belongs to --records alone: name the arm to compare with as the first of the arms.")
    if config is None or out is None:
        missing = "--config" if config is None else "--out"
        raise UserError(f"{missing} is not given, but training arms needs it: give it, or --records alone for a table.")
    operation.ablate(
        operation.AblationPlan(
            config_file=config,
            overrides=[*environment_overrides(), *(overrides or ())],
            rewards=named,
            variants=variant or (),
            num_seeds=seeds,
            out=out,
            records=(records or out / operation.RECORDS_FOLDER).expanduser().resolve(),
        )
    )
