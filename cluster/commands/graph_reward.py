"""`floe train-graph-reward` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floe.cluster.commands.paths import given_config, given_path
from floe.cluster.environment import environment_overrides
from floe.configs.files.loading import load_config


def train_graph_reward(
    out: Annotated[Path, typer.Option(parser=given_path, help="Folder to make, for reward.graph_network.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SECTION.FIELD=VALUE]...", help="Values of the section data: the questions."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(parser=given_config, help="YAML configuration of a run, for its data.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the pairs, the split and the training.")] = 1,
    rewrites: Annotated[int, typer.Option(min=1, help="Equivalent queries tried for each gold.")] = 4,
    mutations: Annotated[int, typer.Option(min=1, help="Different queries tried for each gold.")] = 4,
    max_golds: Annotated[int, typer.Option(min=1, help="Golds taken from each database.")] = 30,
    held_out_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of the databases that is held out, for the AUC.")
    ] = 0.2,
    margin_epochs: Annotated[int, typer.Option(min=0, help="Passes over the pairs with the margin loss.")] = 4,
    epochs: Annotated[int, typer.Option(min=0, help="Passes with the supervised loss after them.")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="Threads of PyTorch; another number may round differently.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")] = False,
) -> None:
    """Train the graph matching network of reward.design=graph_reward, and print its AUC on unseen databases."""
    resolved = load_config(config, [*environment_overrides(), *(overrides or ())])
    from floe.cluster.graph_training.fitting import FitPlan
    from floe.cluster.graph_training.pairs import PairPlan
    from floe.cluster.operations import train_graph_reward as operation

    options = operation.TrainGraphOptions(
        out=out.expanduser().resolve(),
        pairs=PairPlan(num_rewrites=rewrites, num_mutations=mutations, seed=seed, max_golds_per_database=max_golds),
        fit=FitPlan(margin_epochs=margin_epochs, supervised_epochs=epochs, seed=seed),
        held_out_share=held_out_share,
        num_threads=threads,
        as_json=as_json,
    )
    operation.train_graph_reward(resolved, options)
