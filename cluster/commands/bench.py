"""`floe bench`: one command per part that is measured; each imports its bench only when it runs."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from floe.cluster.commands.paths import given_config, given_path
from floe.cluster.environment import environment_overrides
from floe.configs.files.loading import load_config

bench = typer.Typer(help="Measures a part of floe on this machine.", no_args_is_help=True, rich_markup_mode=None)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SECTION.FIELD=VALUE]...", help="Values that replace the defaults."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]
Dtype = Annotated[str | None, typer.Option(help="bfloat16 or float32, for both; otherwise that of the configuration.")]
Ways = Annotated[str | None, typer.Option(help="Some of the ways, with commas. Otherwise all.")]
Shapes = Annotated[
    str | None, typer.Option(help="Prompt/completion tokens and x with the group's size, as in 150/24,600/60x8.")
]
Rounds = Annotated[int | None, typer.Option(min=1, help="Times that each way is measured.")]


@bench.command("reward")
def bench_reward(
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Scores per CPU-second of the reward service, next to bare SQLite and other evaluators' ways."""
    resolved = load_config(None, [*environment_overrides(), *(overrides or ())])
    from floe.cluster.bench.reward import reward_bench as operation

    operation.bench_reward(resolved, as_json)


@bench.command("reasoning")
def bench_reasoning(
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Count how often a wrong query outscores a right one under Reasoning-SQL's plain sum, on `data`."""
    resolved = load_config(None, [*environment_overrides(), *(overrides or ())])
    from floe.cluster.bench.reward import reasoning_bench as operation

    operation.bench_reasoning(resolved, as_json)


@bench.command("prompts")
def bench_prompts(
    questions: Annotated[Path, typer.Argument(parser=given_path, help="File of questions.")],
    databases: Annotated[
        Path, typer.Argument(parser=given_path, help="Folder of databases, or a tables.json to make empty ones of.")
    ],
    tokenizer: Annotated[
        Path, typer.Option(parser=given_path, metavar="MODEL_DIR", help="Folder of the model, or of its tokenizer.")
    ],
    budgets: Annotated[
        str, typer.Option(metavar="512,1024", help="Trim to so many tokens; otherwise values are shown.")
    ] = "",
    prompts_of: Annotated[
        Path | None,
        typer.Option(parser=given_config, metavar="CONFIG", help="Trim this run's prompts, to its budget."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure which stored texts of golds prompts show, and which of the golds' columns short prompts lose."""
    from floe.cluster.bench import prompt_bench as operation

    sizes = [int(one) for one in budgets.split(",") if one]
    config = None if prompts_of is None else load_config(prompts_of, environment_overrides())
    operation.bench_prompts(questions, databases, tokenizer, operation.budgets_of(sizes, config), as_json)


@bench.command("trimming")
def bench_trimming(
    config: Annotated[Path, typer.Option(parser=given_config, help="Configuration of the run.")],
    overrides: Overrides = None,
    adapter: Annotated[
        Path | None, typer.Option(parser=given_path, help="Folder of a PEFT adapter; the base model if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count right answers to prompts that lost columns, and to the same with the golds' columns kept."""
    resolved = load_config(config, [*environment_overrides(), *(overrides or ())])
    with redirect_stdout(sys.stderr):
        from floe.cluster.bench import trimming_bench as operation

    operation.bench_trimming(resolved, adapter, as_json)


@bench.command("hacking")
def bench_hacking(
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Measure what constant policies and a query of every table earn under each reward design, on `data`."""
    resolved = load_config(None, [*environment_overrides(), *(overrides or ())])
    from floe.cluster.bench.reward import hacking_bench as operation

    operation.bench_hacking(resolved, as_json)


@bench.command("families")
def bench_families(
    overrides: Overrides = None,
    only: Annotated[str, typer.Option(help="Some model types, with commas. Otherwise all that vLLM knows too.")] = "",
    trained: Annotated[str, typer.Option(help="Of these, with commas, a tiny model is trained for two steps.")] = "",
    as_json: AsJson = False,
) -> None:
    """Check which families of models the learner computes as the models themselves do, by tiny models of each."""
    resolved = load_config(None, [*environment_overrides(), *(overrides or ())])
    with redirect_stdout(sys.stderr):
        from floe.cluster.bench.families import family_bench as operation

    names, short_runs = ([one for one in listed.split(",") if one] for listed in (only, trained))
    operation.bench_families(resolved, names, short_runs, as_json)


@bench.command("learner")
def bench_learner(
    overrides: Overrides = None,
    dtype: Dtype = None,
    ways: Ways = None,
    shapes: Shapes = None,
    rounds: Rounds = None,
    as_json: AsJson = False,
) -> None:
    """Completion tokens that the learner trains per second, beside unshared prompts and trl; it says how long."""
    from floe.cluster.bench.learner.learner_cases import MAX_PACK_TOKENS

    packs = f"learner.max_pack_tokens={MAX_PACK_TOKENS}"
    resolved = load_config(None, [packs, *environment_overrides(), *(overrides or ()), *_precision(dtype)])
    with redirect_stdout(sys.stderr):  # DeepSpeed keeps the stream that it finds for what it has to say
        from floe.cluster.bench.choice import chosen
        from floe.cluster.bench.learner import learner_bench as operation
        from floe.cluster.bench.learner.learner_figures import WAYS

    operation.bench_learner(resolved, as_json, chosen(WAYS, ways, shapes, rounds))


@bench.command("rollout")
def bench_rollout(
    overrides: Overrides = None,
    dtype: Dtype = None,
    ways: Ways = None,
    shapes: Shapes = None,
    rounds: Rounds = None,
    as_json: AsJson = False,
) -> None:
    """Tokens that a rollout actor generates per second, next to vLLM and transformers; it says how long."""
    resolved = load_config(None, [*environment_overrides(), *(overrides or ()), *_precision(dtype)])
    with redirect_stdout(sys.stderr):
        from floe.cluster.bench import rollout_bench as operation
        from floe.cluster.bench.choice import chosen

    operation.bench_rollout(resolved, as_json, chosen(operation.WAYS, ways, shapes, rounds))


@bench.command("trl")
def bench_trl(
    overrides: Overrides = None,
    dtype: Dtype = None,
    ways: Ways = None,
    rounds: Rounds = None,
    as_json: AsJson = False,
) -> None:
    """Whole GRPO steps next to those of trl's trainer on the same questions: seconds a step and a token, by phase."""
    with redirect_stdout(sys.stderr):
        from floe.cluster.bench.choice import chosen
        from floe.cluster.bench.whole_step import step_bench as operation
        from floe.cluster.bench.whole_step.step_figures import WAYS

    given = [*operation.BENCH_OVERRIDES, *environment_overrides(), *(overrides or ()), *_precision(dtype)]
    operation.bench_trl(load_config(None, given), as_json, chosen(WAYS, ways, None, rounds))


@bench.command("sync")
def bench_sync(
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Milliseconds of an adapter's way to 1, 2, 4 and 8 receivers, next to a copy of its bytes and a disk folder."""
    resolved = load_config(None, [*environment_overrides(), *(overrides or ())])
    with redirect_stdout(sys.stderr):
        from floe.cluster.bench import sync_bench as operation

    operation.bench_sync(resolved, as_json)


@bench.command("memory")
def bench_memory(
    overrides: Overrides = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="Shape of the model; several may be given. Otherwise all four.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Memory that engine and learner hold on a CPU, next to what floe plan says; a quarter of an hour, up to 10 GiB."""
    with redirect_stdout(sys.stderr):
        from floe.cluster.bench import memory_bench as operation
    resolved = load_config(None, [*operation.BENCH_OVERRIDES, *environment_overrides(), *(overrides or ())])

    operation.bench_memory(resolved, shape or (), as_json)


@bench.command("dropout")
def bench_dropout(
    run_dir: Annotated[Path, typer.Argument(parser=given_path, help="Folder of a run that has made a step.")],
    dropout: Annotated[float, typer.Option(min=0, max=0.99, help="The dropout, as in lora.dropout.")] = 0.05,
    groups: Annotated[int, typer.Option(min=1, help="Logged groups that are taken, the last ones.")] = 16,
    as_json: AsJson = False,
) -> None:
    """Spread of the ratio that a dropout alone makes, on a run's adapters and the candidates that it logged."""
    with redirect_stdout(sys.stderr):
        from floe.cluster.bench.learner import dropout_bench as operation

    operation.bench_dropout(run_dir, dropout, groups, as_json)


@bench.command("time")
def bench_time(
    run_dir: Annotated[Path, typer.Argument(parser=given_path, help="Folder of a run that has ended.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Seconds that a run's plan gave each phase, next to those that it took; measures nothing itself."""
    from floe.cluster.bench import time_bench as operation

    operation.bench_time(run_dir, as_json)


def _precision(dtype: str | None) -> list[str]:
    """Return the overrides that set the precision; it takes precedence over the other overrides."""
    return [] if dtype is None else [f"model.dtype={dtype}", f"rollout.dtype={dtype}"]
