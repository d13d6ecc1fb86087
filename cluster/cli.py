"""The `floe` command: reads arguments and environment, and imports what a command needs only when it runs."""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from configs.errors import UserError
from configs.loading import load_config

EXIT_CODE_USER_ERROR = 2
EXIT_CODE_INTERRUPTED = 130

app = typer.Typer(
    help="Post-trains language models to write SQL, with the result of running the SQL as reward.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain sentences, also in a job's log
    pretty_exceptions_enable=False,
)

bench = typer.Typer(help="Measures a part of floe on this machine.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bench, name="bench")

ConfigOption = Annotated[Path, typer.Option("--config", help="YAML configuration of the run.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SECTION.FIELD=VALUE]...", help="Values that replace those of the file."),
]


@app.command()
def train(
    config: ConfigOption,
    overrides: Overrides = None,
    run_dir: Annotated[Path | None, typer.Option(help="Where the run's files go; a new folder if left out.")] = None,
) -> None:
    """Warm-start a policy, train it with GRPO and compare before and after."""
    resolved = load_config(config, [*_environment_overrides(), *(overrides or ())])
    from cluster.operations import train as operation

    operation.train(resolved, run_dir)


@app.command()
def evaluate(
    config: ConfigOption,
    overrides: Overrides = None,
    adapter: Annotated[Path | None, typer.Option(help="Folder of a PEFT adapter; none: the base model.")] = None,
    split: Annotated[str | None, typer.Option(help="train, tune or test; else evaluation.split.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Print the accuracy of the base model and of an adapter."""
    chosen_split = [] if split is None else [f"evaluation.split={split}"]
    resolved = load_config(config, [*_environment_overrides(), *(overrides or ()), *chosen_split])
    from cluster.operations import evaluate as operation

    operation.evaluate(resolved, adapter, resolved.evaluation.split, as_json)


@app.command()
def score(
    questions: Annotated[Path, typer.Option(help="Spider- or BIRD-layout JSON, or JSON lines.")],
    databases: Annotated[Path, typer.Option(help="Folder of <db_id>/<db_id>.sqlite.")],
    predictions: Annotated[Path, typer.Option(help="JSON lines: question_id, and sql or completion.")],
    semantics: Annotated[str | None, typer.Option(help="bird (default), spider or strict.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="CPU seconds of one candidate.")] = None,
    workers: Annotated[int | None, typer.Option(help="Candidates scored at a time.")] = None,
    float_tolerance: Annotated[float | None, typer.Option(help="Relative; 0 compares exactly.")] = None,
    empty_gold: Annotated[str | None, typer.Option(help="score (default), skip or down_weight.")] = None,
    suite: Annotated[Path | None, typer.Option(help="Further contents, <db_id>/*.sqlite, for spider.")] = None,
    allow_missing_databases: Annotated[
        bool, typer.Option(help="They end as infrastructure, without a reward.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines and nothing else on stdout.")] = False,
) -> None:
    """Score given SQL by running it; needs no model. Ends with 3 when a prediction could not be judged."""
    options = {
        "semantics": semantics,
        "time_limit_s": time_limit,
        "num_workers": workers,
        "float_tolerance": float_tolerance,
        "empty_gold": empty_gold,
        "suite": None if suite is None else str(suite),
    }
    given = [f"reward.{field}={_yaml(value)}" for field, value in options.items() if value is not None]
    reward = load_config(None, given).reward
    from cluster.operations import score as operation

    raise typer.Exit(operation.score(questions, databases, predictions, reward, as_json, allow_missing_databases))


@app.command()
def status(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run, as floe train named it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Print where a run is, what it waits for, and whether it is alive."""
    from cluster.operations import status as operation

    operation.status(run_dir, as_json)


@bench.command("reward")
def bench_reward(
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Scores per CPU-second of the reward service, beside bare SQLite and other evaluators' ways."""
    resolved = load_config(None, [*_environment_overrides(), *(overrides or ())])
    from cluster.bench import reward_bench as operation

    operation.bench_reward(resolved, as_json)


@bench.command("learner")
def bench_learner(
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Completion tokens that the learner trains per second, beside unshared prompts and trl; a quarter of an hour."""
    from cluster.bench.learner_cases import MAX_PACK_TOKENS

    packs = f"learner.max_pack_tokens={MAX_PACK_TOKENS}"
    resolved = load_config(None, [packs, *_environment_overrides(), *(overrides or ())])
    with redirect_stdout(sys.stderr):  # DeepSpeed keeps the stream that it finds for what it has to say
        from cluster.bench import learner_bench as operation

    operation.bench_learner(resolved, as_json)


@bench.command("rollout")
def bench_rollout(
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Tokens that a rollout actor generates per second, beside vLLM and transformers; a quarter of an hour."""
    resolved = load_config(None, [*_environment_overrides(), *(overrides or ())])
    with redirect_stdout(sys.stderr):
        from cluster.bench import rollout_bench as operation

    operation.bench_rollout(resolved, as_json)


@bench.command("sync")
def bench_sync(
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Milliseconds of an adapter's way to 1, 2, 4 and 8 receivers, beside a copy of its bytes and a disk folder."""
    resolved = load_config(None, [*_environment_overrides(), *(overrides or ())])
    with redirect_stdout(sys.stderr):
        from cluster.bench import sync_bench as operation

    operation.bench_sync(resolved, as_json)


@app.command()
def version() -> None:
    """Print floe's version."""
    from importlib.metadata import version as installed_version

    print(installed_version("floe-rl"))


def main() -> None:
    """The console script: a UserError becomes one sentence and exit code 2, an interrupt exit code 130.

    With FLOE_DEBUG=1 a UserError keeps its trace.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' bars would be drawn into floe's own progress
    try:
        app(prog_name="floe")
    except UserError as error:
        if os.environ.get("FLOE_DEBUG") == "1":
            raise
        # An error that was raised in another process comes wrapped, its own text under `cause`.
        print(f"floe: {getattr(error, 'cause', error)}", file=sys.stderr)
        sys.exit(EXIT_CODE_USER_ERROR)
    except KeyboardInterrupt:
        sys.exit(EXIT_CODE_INTERRUPTED)


def _environment_overrides() -> list[str]:
    """FLOE_HOME beats the file; an override on the command line beats both."""
    home = os.environ.get("FLOE_HOME")
    return [f"run.home={_yaml(home)}"] if home else []


def _yaml(value: object) -> str:
    """JSON is YAML, and quotes what needs it."""
    return json.dumps(value)


if __name__ == "__main__":
    main()
