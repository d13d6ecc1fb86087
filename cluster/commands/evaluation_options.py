"""Options of `floe evaluate` that say what is asked and where answers go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floe.cluster.commands.paths import given_path

Data = Annotated[
    Path | None, typer.Option(parser=given_path, help="A data set's folder, as floe prepare reads it; else a split.")
]
Part = Annotated[str | None, typer.Option(help="Part of --data: dev, test, mini_dev, valid; else the first.")]
DataDatabases = Annotated[
    Path | None, typer.Option(parser=given_path, help="Folder of the databases of --data, where it has none.")
]
Predictions = Annotated[
    Path | None, typer.Option(parser=given_path, help="Where the greedy SQL goes, as the benchmark has it.")
]
Out = Annotated[
    Path | None, typer.Option(parser=given_path, help="Folder to save the evaluation in, for floe compare.")
]
