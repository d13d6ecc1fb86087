"""The commands of `floe prepare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from floe.actors.layouts.registry import LAYOUTS, layout_named
from floe.cluster.commands.paths import given_config, given_path
from floe.cluster.environment import environment_overrides
from floe.configs.files.loading import load_config
from floe.configs.files.yaml_text import flow_text

prepare = typer.Typer(
    help="Turns the files that people have into what training reads, and says what it dropped and why.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ANY_LAYOUT = "auto"


@prepare.callback(invoke_without_command=True)
def _list(
    show_list: Annotated[bool, typer.Option("--list", help="List the layouts, and what each holds.")] = False,
) -> None:
    if show_list:
        for one in sorted(LAYOUTS, key=lambda layout: layout.name):
            print(f"{one.name:14} {one.summary}")
        raise typer.Exit


Destination = Annotated[
    Path, typer.Argument(parser=given_path, metavar="DST", help="Folder to make, or to bring up to date.")
]
ArchiveFolder = Annotated[Path, typer.Argument(parser=given_path, metavar="SRC", help="The unpacked archive.")]
DatabasesOption = Annotated[
    Path | None,
    typer.Option("--databases", parser=given_path, help="Folder of the databases, where the archive has none."),
]
FieldsOption = Annotated[
    str,
    typer.Option(
        metavar="NAME=FIELD,...", help="Fields of records whose names are not told, as in sql=gold,question=q."
    ),
]
Evaluation = Annotated[
    list[Path] | None,
    typer.Option(
        parser=given_path, help="Questions file whose questions and golds training must not hold; may be repeated."
    ),
]
TimeLimit = Annotated[float | None, typer.Option(help="CPU seconds of one run of a gold; 5 if left out.")]
HeldOutShare = Annotated[float, typer.Option(min=0.001, max=0.499, help="Share of the databases that is held back.")]
Seed = Annotated[int, typer.Option(help="Seed of the choice of what is held back.")]
Clock = Annotated[str | None, typer.Option(help="What SQL gets for 'now', in UTC; kept with the folder.")]
Workers = Annotated[int | None, typer.Option(help="Golds run at a time; otherwise one on each core.")]
MeasurePassRate = Annotated[
    Path | None,
    typer.Option(
        parser=given_config,
        metavar="CONFIG",
        help="Then sample each training question with this run's starting policy.",
    ),
]
PromptsOf = Annotated[
    Path | None,
    typer.Option(
        parser=given_config,
        metavar="CONFIG",
        help="Then count this run's prompts: the longest, those trimmed and refused.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]


def _add_layout(name: str, help_text: str) -> None:
    @prepare.command(name, help=help_text)
    def of_layout(
        source: ArchiveFolder,
        destination: Destination,
        databases: DatabasesOption = None,
        fields: FieldsOption = "",
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
        from floe.actors.records.fields import given_fields
        from floe.cluster.preparation.sources import layout_sources

        layout = None if name == ANY_LAYOUT else layout_named(name)
        sources, notes = layout_sources(source, databases, layout, given_fields(fields))
        options = _options(evaluation, time_limit, held_out_share, seed, workers, clock, as_json, notes)
        _prepare(destination, sources, options, prompts_of, measure_pass_rate)


for _layout in sorted(LAYOUTS, key=lambda one: one.name):
    _add_layout(_layout.name, _layout.summary)
_add_layout(ANY_LAYOUT, "Any of these layouts, recognised by the files and printed.")


@prepare.command()
def jsonl(
    questions: Annotated[
        Path, typer.Argument(parser=given_path, metavar="QUESTIONS", help="JSON, JSON lines, CSV or Parquet.")
    ],
    databases: Annotated[
        Path, typer.Argument(parser=given_path, metavar="DATABASES", help="A folder of SQLite files, or a single one.")
    ],
    destination: Destination,
    fields: FieldsOption = "",
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
    """Your own questions: db_id, question and query (or SQL) each, over any folder of SQLite files, or one database."""
    from floe.actors.records.fields import given_fields
    from floe.cluster.preparation.sources import file_sources

    sources = file_sources(questions, databases, given_fields(fields))
    options = _options(evaluation, time_limit, held_out_share, seed, workers, clock, as_json, ())
    _prepare(destination, sources, options, prompts_of, measure_pass_rate)


def _options(
    evaluation: list[Path] | None,
    time_limit: float | None,
    held_out_share: float,
    seed: int,
    workers: int | None,
    clock: str | None,
    as_json: bool,
    notes: tuple[str, ...],
) -> Any:
    from floe.cluster.operations.prepare import PrepareOptions, num_usable_cores

    given = {
        "time_limit_s": time_limit,
        "clock": clock,
        "num_workers": num_usable_cores() if workers is None else workers,
    }
    reward = load_config(
        None, [f"reward.{name}={json.dumps(one)}" for name, one in given.items() if one is not None]
    ).reward
    return PrepareOptions(
        evaluation=tuple(evaluation or ()),
        held_out_share=held_out_share,
        seed=seed,
        reward=reward,
        as_json=as_json,
        notes=notes,
    )


def _prepare(destination: Path, sources: Any, options: Any, prompts_of: Path | None, measured_by: Path | None) -> None:
    from floe.cluster.operations import prepare as operation

    for path in (prompts_of, measured_by):
        if path is not None:
            load_config(path, environment_overrides())  # a fault in it should show before the checks, not after
    folder = operation.prepare(destination, sources, options)
    of_folder = [*environment_overrides(), "data.source=prepared", f"data.prepared={flow_text(str(folder))}"]
    if prompts_of is not None:
        from floe.cluster.operations.prompt import summarise_prompts

        summarise_prompts(load_config(prompts_of, of_folder), to_stderr=options.as_json)
    if measured_by is not None:
        from floe.cluster.operations.measure_pass_rate import measure_pass_rate

        measure_pass_rate(load_config(measured_by, of_folder))
