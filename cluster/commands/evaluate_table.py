"""`floe evaluate --benchmarks` on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from floe.cluster.environment import environment_overrides
from floe.configs.errors import UserError
from floe.configs.quick_imports import without_collections


def filled_table(
    file: Path,
    config: Path | None,
    overrides: Sequence[str],
    refused: Mapping[str, Path | str | None],
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
