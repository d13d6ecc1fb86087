"""`floe evaluate` on the command line: one policy on one data set, or a table of several."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from floe.cluster.commands.endpoint_options import with_endpoint_options
from floe.cluster.commands.paths import given_config, given_path
from floe.cluster.environment import environment_overrides
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.quick_imports import without_collections

Config = Annotated[Path | None, typer.Option("--config", parser=given_config, help="YAML configuration of the run.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SECTION.FIELD=VALUE]...", help="Values that replace those of the file."),
]
Benchmarks = Annotated[
    Path | None, typer.Option(parser=given_path, help="YAML of data sets and policies, for a table of them.")
]
Adapter = Annotated[
    Path | None, typer.Option(parser=given_path, help="Folder of a PEFT adapter; the base model if left out.")
]
Data = Annotated[
    Path | None, typer.Option(parser=given_path, help="A data set's folder, as floe prepare reads it; else a split.")
]
Part = Annotated[str | None, typer.Option(help="Part of --data: dev, test, mini_dev, valid; else the first.")]
Databases = Annotated[
    Path | None, typer.Option(parser=given_path, help="Folder of the databases of --data, where it has none.")
]
Split = Annotated[str | None, typer.Option(help="train, tune or test; else evaluation.split.")]
Samples = Annotated[int | None, typer.Option(help="Samples per question; else evaluation.num_samples.")]
Temperature = Annotated[float | None, typer.Option(help="Temperature of the samples; else evaluation.temperature.")]
Limit = Annotated[int | None, typer.Option(help="Questions at most; else evaluation.max_questions.")]
Predictions = Annotated[
    Path | None, typer.Option(parser=given_path, help="Where the greedy SQL goes, as the benchmark has it.")
]
Out = Annotated[
    Path | None,
    typer.Option(parser=given_path, help="Folder to save the evaluation or the table in, for floe compare."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]


@with_endpoint_options
def evaluate(
    config: Config = None,
    overrides: Overrides = None,
    benchmarks: Benchmarks = None,
    adapter: Adapter = None,
    data: Data = None,
    part: Part = None,
    databases: Databases = None,
    split: Split = None,
    samples: Samples = None,
    temperature: Temperature = None,
    limit: Limit = None,
    predictions: Predictions = None,
    out: Out = None,
    as_json: AsJson = False,
    endpoint: Any = None,  # an EndpointPolicy of its own options
) -> None:
    """Print a policy's accuracy (base model, adapter, endpoint): greedy, pass@k, voted, by hardness and by database.

    With --benchmarks a table of data sets by policies; it ends with 3 when a cell could not be filled.
    """
    if benchmarks is not None:
        refused = {"--data": data, "--databases": databases, "--predictions": predictions, "--endpoint": endpoint}
        raise typer.Exit(
            _filled_table(
                benchmarks, config, overrides or (), refused,
                adapter=adapter, split=part or split, samples=samples, temperature=temperature, limit=limit, out=out,
                as_json=as_json,
            )
        )  # fmt: skip
    if config is None:
        raise UserError("floe evaluate needs --config FILE, or --benchmarks FILE that names one: give either.")
    options = {"split": split, "num_samples": samples, "temperature": temperature, "max_questions": limit}
    given = [f"evaluation.{field}={json.dumps(value)}" for field, value in options.items() if value is not None]
    resolved = load_config(config, [*environment_overrides(), *(overrides or ()), *given])
    with without_collections():
        from floe.cluster.operations import evaluate as operation

    chosen = operation.EvaluateOptions(
        adapter=adapter,
        data=data,
        part=part,
        databases=databases,
        predictions=predictions,
        out=out,
        as_json=as_json,
        endpoint=endpoint,
    )
    operation.evaluate(resolved, chosen)


def _filled_table(
    file: Path,
    config: Path | None,
    overrides: Sequence[str],
    refused: Mapping[str, object],
    *,
    adapter: Path | None,
    split: str | None,
    samples: int | None,
    temperature: float | None,
    limit: int | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Fill and print the table; return the exit code. `refused` are options that only a single evaluation has.

    Raises UserError.
    """
    for option, given in refused.items():
        if given is not None:
            raise UserError(f"{option} is for a single data set, and --benchmarks names several: leave one out.")
    for option, count in (("--samples", samples), ("--limit", limit)):
        if count is not None and count < 1:
            raise UserError(f"{option} is {count}, but must be at least 1: correct it or leave it out.")
    given_overrides = [*environment_overrides(), *overrides]
    if temperature is not None:
        given_overrides.append(f"evaluation.temperature={json.dumps(temperature)}")
    with without_collections():
        from floe.cluster.operations.evaluate_table import TableOptions, evaluate_table

    return evaluate_table(
        TableOptions(
            file=file,
            config=config,
            overrides=tuple(given_overrides),
            adapter=adapter,
            split=split,
            samples=samples,
            limit=limit,
            out=out,
            as_json=as_json,
        )
    )
