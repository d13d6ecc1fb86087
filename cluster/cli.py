"""The `floe` command: reads arguments and environment, and imports what a command needs only when it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from floe.cluster.commands.ablate import ablate
from floe.cluster.commands.bench import bench
from floe.cluster.commands.evaluate import evaluate
from floe.cluster.commands.export import ask, export
from floe.cluster.commands.fields import fields
from floe.cluster.commands.graph_reward import train_graph_reward
from floe.cluster.commands.paths import given_config, given_path
from floe.cluster.commands.prepare import prepare
from floe.cluster.commands.report import report, runs
from floe.cluster.commands.score import score
from floe.cluster.environment import environment_overrides, logs_dir
from floe.cluster.loop.stop_request import terminations_as_ctrl_c
from floe.cluster.run_folder.failure_report import first_screen, note_failure
from floe.cluster.terminal.shown_text import say, show_what_cant_be_encoded
from floe.configs.errors import (
    EXIT_CODE_FAULT,
    EXIT_CODE_INTERRUPTED,
    EXIT_CODE_LOST,
    EXIT_CODE_USER_ERROR,
    Interrupted,
    LostError,
    UserError,
    is_stop,
)
from floe.configs.files.loading import load_config
from floe.configs.quick_imports import without_collections

app = typer.Typer(
    help="Post-trains language models to write SQL, with the result of running the SQL as reward.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain sentences, also in a job's log
    pretty_exceptions_enable=False,
)

app.add_typer(bench, name="bench")
app.add_typer(prepare, name="prepare")
for _command in (ablate, evaluate, report, export, ask, runs, score, train_graph_reward, fields):
    app.command()(_command)

ConfigOption = Annotated[Path, typer.Option("--config", parser=given_config, help="YAML configuration of the run.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SECTION.FIELD=VALUE]...", help="Values that replace those of the file."),
]


@app.command()
def train(
    overrides: Overrides = None,
    config: Annotated[Path | None, typer.Option(parser=given_config, help="YAML configuration of the run.")] = None,
    run_dir: Annotated[
        Path | None, typer.Option(parser=given_path, help="Where the run's files go; a new folder if left out.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(parser=given_path, help="Folder of a run to continue, in place of --config.")
    ] = None,
    unsupervised: Annotated[bool, typer.Option("--unsupervised", hidden=True)] = False,
) -> None:
    """Warm-start a policy, train it with GRPO and compare before and after; or continue an interrupted run."""
    from floe.cluster.plugins.checks import check_plugins
    from floe.cluster.run_folder.layout import config_of_run, new_run_dir
    from floe.cluster.training.supervisor import supervise

    if (config is None) == (resume is None) or (resume is not None and run_dir is not None):
        raise UserError("floe train takes either --config FILE (with or without --run-dir) or --resume RUN_DIR.")
    given = [*environment_overrides(), *(overrides or ())]
    if resume is not None:
        run_dir = resume.expanduser().resolve()
        resolved = config_of_run(run_dir, overrides or ())
        arguments = ["--resume", str(run_dir)]
    else:
        resolved = load_config(config, given)
        check_plugins(resolved)
        run_dir = new_run_dir(resolved, run_dir)
        arguments = ["--config", str(config), "--run-dir", str(run_dir)]
    if resolved.run.retries and not unsupervised:
        first = ["train", *arguments, *(overrides or ())]
        raise typer.Exit(supervise(first, run_dir, resolved.run.retries, lambda line: say(line, to_stderr=True)))
    with without_collections():
        from floe.cluster.operations import train as operation

    (operation.train if resume is None else operation.resume)(resolved, run_dir)


@app.command()
def compare(
    a: Annotated[
        Path, typer.Argument(parser=given_path, metavar="A", help="Folder of floe evaluate --out, or of a run.")
    ],
    b: Annotated[
        list[Path],
        typer.Argument(parser=given_path, metavar="B", help="The same; differences are B to A. Several: seeds."),
    ],
    pairs: Annotated[
        bool, typer.Option("--pairs", help="They are A1 B1 A2 B2 and so on, a pair of each seed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Compare two evaluations of the same questions, or two benchmark tables: paired differences, McNemar's test.

    With several B, as the seeds of one recipe: differences to A by seed, and those of the seeds' mean.
    """
    from floe.cluster.operations import compare as operation

    raise typer.Exit(operation.compare(a, b, as_json, in_pairs=pairs))


@app.command()
def prompt(
    config: ConfigOption,
    overrides: Overrides = None,
    question: Annotated[str | None, typer.Option(help="The question_id, or the index where there is none.")] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Lengths of all prompts instead.")] = False,
) -> None:
    """Print exactly what the model sees of a question, and its token count."""
    if (question is None) != summary:
        raise UserError("floe prompt needs one of --question ID and --summary: give either.")
    resolved = load_config(config, [*environment_overrides(), *(overrides or ())])
    with without_collections():
        from floe.cluster.operations import prompt as operation

    if question is None:
        operation.summarise_prompts(resolved)
    else:
        operation.show_prompt(resolved, question)


@app.command()
def status(
    run_dir: Annotated[
        Path, typer.Argument(parser=given_path, metavar="RUN_DIR", help="Folder of a run, as floe train named it.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Print where a run is, what it waits for, and whether it is alive."""
    from floe.cluster.operations import status as operation

    operation.status(run_dir, as_json)


@app.command()
def doctor(
    overrides: Overrides = None,
    config: Annotated[
        Path | None, typer.Option(parser=given_config, help="YAML configuration of the run; else the defaults.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Check this machine, the model and the data for a run; a line each. Ends with 2 when there is a fault."""
    resolved = load_config(config, [*environment_overrides(), *(overrides or ())])
    with without_collections():
        from floe.cluster.operations import doctor as operation

    raise typer.Exit(operation.doctor(resolved, as_json))


@app.command()
def plan(
    config: ConfigOption,
    overrides: Overrides = None,
    gpu_memory: Annotated[
        str | None,
        typer.Option(
            help="As 24GB (to the byte: a card of that name may show less, see --device) or 24GiB; else that of the "
            "GPU found, or of the host without GPUs."
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="A card by name, as a10 or a100-40g: its size, and the time by its published peaks."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Print what a run will hold in memory, and about how long it takes. Ends with 3 when it doesn't fit."""
    resolved = load_config(config, [*environment_overrides(), *(overrides or ())])
    with without_collections():
        from floe.cluster.operations import plan as operation

    raise typer.Exit(operation.plan(resolved, gpu_memory, as_json, device))


@app.command()
def version() -> None:
    """Print floe's version."""
    from importlib.metadata import version as installed_version

    print(installed_version("floe-rl"))


def main() -> None:
    """Run the console script: exit code 2 and one sentence for a UserError, 130 for a stop by a signal, else 1.

    With FLOE_DEBUG=1 an error keeps its trace; otherwise the trace is in a file that the last line names.
    """
    show_what_cant_be_encoded()
    os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' bars would be drawn into floe's own progress
    try:
        with terminations_as_ctrl_c():
            app(prog_name="floe")
    except UserError as error:
        if os.environ.get("FLOE_DEBUG") == "1":
            raise
        say(first_screen(error), to_stderr=True)
        sys.exit(_exit_code(error))
    except (KeyboardInterrupt, SystemExit) as end:
        if is_stop(end):
            sys.exit(EXIT_CODE_INTERRUPTED)
        raise
    except Exception as error:
        if os.environ.get("FLOE_DEBUG") == "1":
            raise
        if not any(note.startswith("log: ") for note in getattr(error, "__notes__", ())):
            note_failure(error, " ".join(["floe", *sys.argv[1:2]]), logs_dir())
        say(first_screen(error), to_stderr=True)
        sys.exit(EXIT_CODE_FAULT)


def _exit_code(error: UserError) -> int:
    if isinstance(error, Interrupted):
        return EXIT_CODE_INTERRUPTED
    return EXIT_CODE_LOST if isinstance(error, LostError) else EXIT_CODE_USER_ERROR


if __name__ == "__main__":
    main()
