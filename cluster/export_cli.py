"""The commands that take a trained policy out of its run: `floe export` and `floe ask`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from configs.errors import UserError


class WhichAdapter(StrEnum):
    BEST = "best"
    LATEST = "latest"
    START = "start"


Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SECTION.FIELD=VALUE]...", help="Values that replace those of the run's configuration."),
]


def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run, as floe train named it.")],
    overrides: Overrides = None,
    merged: Annotated[Path | None, typer.Option(metavar="OUT", help="New folder for the merged model.")] = None,
    adapter: Annotated[Path | None, typer.Option(metavar="OUT", help="New folder for the PEFT adapter alone.")] = None,
    which: Annotated[WhichAdapter | None, typer.Option(help="The best if there is one, else the latest.")] = None,
) -> None:
    """Write a run's adapter, merged into its base model (bfloat16) or alone, with a card of the run."""
    if merged is None and adapter is None:
        raise UserError("floe export needs --merged OUT or --adapter OUT: name the folder to write.")
    from cluster.run_folder import config_of_run

    run_dir = run_dir.expanduser().resolve()
    config = config_of_run(run_dir, overrides or ())
    from cluster.operations import export as operation

    operation.export(config, run_dir, None if which is None else which.value, merged, adapter)
