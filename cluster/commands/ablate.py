"""`floe ablate` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floe.cluster.commands.paths import given_config, given_path
from floe.cluster.environment import environment_overrides
from floe.configs.errors import UserError


def ablate(
    config: Annotated[
        Path, typer.Option("--config", parser=given_config, help="YAML configuration that all arms share.")
    ],
    out: Annotated[
        Path,
        typer.Option(parser=given_path, help="Folder of the runs, the table and the plot; goes on with what it holds."),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SECTION.FIELD=VALUE]...", help="Values that replace those of the file."),
    ] = None,
    rewards: Annotated[str, typer.Option(help="Reward designs, as arctic,sql_r1: an arm each.")] = "",
    variant: Annotated[
        list[str] | None, typer.Option(help="A further arm, as 'NAME: section.field=value ...'; several may be given.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each arm.")] = 1,
) -> None:
    """Train under several reward designs from one start with one budget of tokens, and compare what comes out."""
    if seeds < 1:
        raise UserError(f"--seeds is {seeds}, but each arm needs at least one run: give 1 or more.")
    from floe.cluster.operations import ablate as operation

    named = [name.strip() for name in rewards.split(",") if name.strip()]
    given = [*environment_overrides(), *(overrides or ())]
    operation.ablate(config, given, named, variant or (), seeds, out.expanduser().resolve())
