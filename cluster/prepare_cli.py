"""The commands of `floe prepare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.environment import environment_overrides
from configs.loading import load_config

prepare = typer.Typer(
    help="Turns the files that people have into what training reads, and says what it dropped and why.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Destination = Annotated[Path, typer.Argument(metavar="DST", help="Folder to make, or to bring up to date.")]
ArchiveFolder = Annotated[Path, typer.Argument(metavar="SRC", help="The unpacked archive.")]
DatabasesOption = Annotated[
    Path | None, typer.Option("--databases", help="Folder of the databases, where the archive has none.")
]
Evaluation = Annotated[
    list[Path] | None,
    typer.Option(help="Questions file whose questions and golds training must not hold; may be repeated."),
]
TimeLimit = Annotated[float | None, typer.Option(help="CPU seconds of one run of a gold; 5 if left out.")]
HeldOutShare = Annotated[float, typer.Option(min=0.001, max=0.499, help="Share of the databases that is held back.")]
Seed = Annotated[int, typer.Option(help="Of the choice of what is held back.")]
Clock = Annotated[str | None, typer.Option(help="What SQL gets for 'now', in UTC; kept with the folder.")]
Workers = Annotated[int | None, typer.Option(help="Golds run at a time; else one on each core.")]
MeasurePassRate = Annotated[
    Path | None,
    typer.Option(metavar="CONFIG", help="Then sample each training question with this run's starting policy."),
]
PromptsOf = Annotated[
    Path | None,
    typer.Option(metavar="CONFIG", help="Then count this run's prompts: the longest, those trimmed and refused."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]


@prepare.command()
def spider(
    source: ArchiveFolder,
    destination: Destination,
    databases: DatabasesOption = None,
    evaluation: Evaluation = None,
    time_limit: TimeLimit = None,
    held_out_share: HeldOutShare = 0.1,
    seed: Seed = 1,
    workers: Workers = None,
    clock: Clock = None,
    prompts_of: PromptsOf = None,
    measure_pass_rate: MeasurePassRate = None,
    as_json: AsJson = False,
) -> None:
    """Prepare a folder of Spider's layout: train_spider.json, train_others.json, dev.json, database/."""
    from cluster.operations.preparation_sources import archive_sources

    sources = archive_sources(source, databases, "spider")
    options = _options(evaluation, time_limit, held_out_share, seed, workers, clock, as_json)
    _prepare(destination, sources, options, prompts_of, measure_pass_rate)


@prepare.command()
def bird(
    source: ArchiveFolder,
    destination: Destination,
    databases: DatabasesOption = None,
    evaluation: Evaluation = None,
    time_limit: TimeLimit = None,
    held_out_share: HeldOutShare = 0.1,
    seed: Seed = 1,
    workers: Workers = None,
    clock: Clock = None,
    prompts_of: PromptsOf = None,
    measure_pass_rate: MeasurePassRate = None,
    as_json: AsJson = False,
) -> None:
    """Prepare a folder of BIRD's layout: train.json, dev.json, train_databases/, dev_databases/, or mini-dev."""
    from cluster.operations.preparation_sources import archive_sources

    sources = archive_sources(source, databases, "bird")
    options = _options(evaluation, time_limit, held_out_share, seed, workers, clock, as_json)
    _prepare(destination, sources, options, prompts_of, measure_pass_rate)


@prepare.command()
def jsonl(
    questions: Annotated[Path, typer.Argument(metavar="QUESTIONS", help="JSON lines or a JSON list.")],
    databases: Annotated[Path, typer.Argument(metavar="DATABASES", help="Any folder of SQLite files.")],
    destination: Destination,
    evaluation: Evaluation = None,
    time_limit: TimeLimit = None,
    held_out_share: HeldOutShare = 0.1,
    seed: Seed = 1,
    workers: Workers = None,
    clock: Clock = None,
    prompts_of: PromptsOf = None,
    measure_pass_rate: MeasurePassRate = None,
    as_json: AsJson = False,
) -> None:
    """Prepare your own questions: db_id, question and query (or SQL) each, over any folder of SQLite files."""
    from cluster.operations.preparation_sources import file_sources

    sources = file_sources(questions, databases)
    options = _options(evaluation, time_limit, held_out_share, seed, workers, clock, as_json)
    _prepare(destination, sources, options, prompts_of, measure_pass_rate)


def _options(
    evaluation: list[Path] | None,
    time_limit: float | None,
    held_out_share: float,
    seed: int,
    workers: int | None,
    clock: str | None,
    as_json: bool,
) -> Any:
    from cluster.operations.prepare import PrepareOptions, num_usable_cores

    given = {
        "time_limit_s": time_limit,
        "clock": clock,
        "num_workers": num_usable_cores() if workers is None else workers,
    }
    reward = load_config(
        None, [f"reward.{name}={json.dumps(one)}" for name, one in given.items() if one is not None]
    ).reward
    return PrepareOptions(
        evaluation=tuple(evaluation or ()), held_out_share=held_out_share, seed=seed, reward=reward, as_json=as_json
    )


def _prepare(destination: Path, sources: Any, options: Any, prompts_of: Path | None, measured_by: Path | None) -> None:
    from cluster.operations import prepare as operation

    for path in (prompts_of, measured_by):
        if path is not None:
            load_config(path, environment_overrides())  # a fault in it should show before the checks, not after
    folder = operation.prepare(destination, sources, options)
    of_folder = [*environment_overrides(), "data.source=prepared", f"data.prepared={json.dumps(str(folder))}"]
    if prompts_of is not None:
        from cluster.operations.prompt import summarise_prompts

        summarise_prompts(load_config(prompts_of, of_folder), to_stderr=options.as_json)
    if measured_by is not None:
        from cluster.operations.measure_pass_rate import measure_pass_rate

        measure_pass_rate(load_config(measured_by, of_folder))
