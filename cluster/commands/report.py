"""The commands that look at runs: `floe report` and `floe runs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floe.cluster.commands.paths import given_path
from floe.cluster.environment import environment_overrides
from floe.configs.files.loading import load_config


def report(
    run_dir: Annotated[
        Path, typer.Argument(parser=given_path, metavar="RUN_DIR", help="Folder of a run, as floe train named it.")
    ],
    out: Annotated[
        Path | None, typer.Option(parser=given_path, help="Where the page goes; RUN_DIR/report.html if left out.")
    ] = None,
    opens: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Write one HTML page of a run: curves, accuracy before and after, what changed, and its rollouts."""
    from floe.cluster.operations import report as operation

    operation.report(run_dir, out, opens)


def runs(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=given_path, metavar="[FOLDER]...", help="Run folders, or folders of these; otherwise home/runs."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """List runs, the newest first: state, steps done, best accuracy."""
    home = load_config(None, environment_overrides()).run.home_dir
    from floe.cluster.operations import runs as operation

    operation.runs(folders or [], home / "runs", as_json)
