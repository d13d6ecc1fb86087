"""The commands that take a trained policy out of its run: `floe export` and `floe ask`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from floe.cluster.commands.paths import given_config, given_path
from floe.cluster.exports.run_policy import policy_of
from floe.cluster.run_folder.layout import config_of_run
from floe.configs.errors import UserError
from floe.configs.quick_imports import without_collections


class WhichAdapter(StrEnum):
    BEST = "best"
    LATEST = "latest"
    START = "start"


class AdapterDtype(StrEnum):
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SECTION.FIELD=VALUE]...", help="Values that replace those of the run's configuration."),
]


def export(
    run_dir: Annotated[
        Path, typer.Argument(parser=given_path, metavar="RUN_DIR", help="Folder of a run, as floe train named it.")
    ],
    overrides: Overrides = None,
    merged: Annotated[
        Path | None, typer.Option(parser=given_path, metavar="OUT", help="New folder for the merged model.")
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(parser=given_path, metavar="OUT", help="New folder for the PEFT adapter alone.")
    ] = None,
    which: Annotated[WhichAdapter | None, typer.Option(help="The best if there is one, otherwise the latest.")] = None,
    adapter_dtype: Annotated[
        AdapterDtype | None, typer.Option(help="Type of the adapter's weights; else that of the run's learner.")
    ] = None,
) -> None:
    """Write a run's adapter, merged into its base model (bfloat16) or alone, with a card of the run."""
    if merged is None and adapter is None:
        raise UserError("floe export needs --merged OUT or --adapter OUT: name the folder to write.")
    run_dir = run_dir.expanduser().resolve()
    config = config_of_run(run_dir, overrides or ())
    with without_collections():
        from floe.cluster.operations import export as operation

    dtype = None if adapter_dtype is None else adapter_dtype.value
    operation.export(config, run_dir, None if which is None else which.value, merged, adapter, adapter_dtype=dtype)


def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="In words, in quotes.")],
    database: Annotated[
        Path, typer.Option(parser=given_path, metavar="FILE.sqlite", help="Read only; or of data.database_kind.")
    ],
    overrides: Overrides = None,
    adapter: Annotated[
        Path | None,
        typer.Option(
            parser=given_path, metavar="FOLDER|RUN_DIR", help="A PEFT adapter, or a run; without it the base model."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(parser=given_config, help="YAML configuration; otherwise that of the adapter's run.")
    ] = None,
    evidence: Annotated[str, typer.Option(help="Knowledge that the database does not hold.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Answer a question about a database: the SQL of a policy, and its rows. Ends with 3 when the SQL fails."""
    folder = None if adapter is None else adapter.expanduser().resolve()
    resolved, folder = policy_of(folder, config, overrides or [])
    with without_collections():
        from floe.cluster.operations import ask as operation

    options = operation.AskOptions(
        question=question, database=database, adapter=folder, evidence=evidence, as_json=as_json
    )
    raise typer.Exit(operation.ask(resolved, options))
