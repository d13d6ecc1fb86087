"""`floe train-graph-reward`: pairs from a data set, the network, and its AUC on databases it never saw."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from floe.cluster.graph_training.dataset import PairSets, load_pair_sets
from floe.cluster.graph_training.fitting import Example, FitPlan, examples_of, fit
from floe.cluster.graph_training.pairs import Pair, PairPlan
from floe.cluster.graph_training.report import NETWORK, areas, render
from floe.cluster.graph_training.similarities import edit_similarity, ngram_similarity
from floe.cluster.run_folder.new_folder import check_free, new_folder
from floe.cluster.terminal.progress import Progress, make_console
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig
from floe.reward_service.graph.build import build
from floe.reward_service.graph.encoding import EncodedGraph, Encoder, Vocabulary
from floe.reward_service.graph.network import GraphMatchingNetwork, NetworkShape, distances
from floe.reward_service.graph.network_files import write_network
from floe.reward_service.graph.plan import schema_of
from floe.reward_service.graph.terms import OperatorGraph
from floe.reward_service.reading.contained_reader import ContainedReader

TABLE_WIDTH = 140


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainGraphOptions:
    out: Path
    pairs: PairPlan
    fit: FitPlan
    held_out_share: float = 0.2
    num_resamples: int = 1000
    num_threads: int = 1
    as_json: bool = False


def train_graph_reward(config: RunConfig, options: TrainGraphOptions) -> None:
    """Write the network to `options.out` and print its AUC. Raises UserError."""
    check_free(options.out)
    progress = Progress(make_console(stderr=True))
    torch.set_num_threads(options.num_threads)
    progress.phase("making pairs")
    sets = load_pair_sets(config, options.pairs, options.held_out_share, progress)
    for name, pairs in (("training", sets.train), ("held-out", sets.held_out)):
        num_equal = sum(pair.is_equal for pair in pairs)
        progress.note(f"{name}: {num_equal} equal and {len(pairs) - num_equal} different pairs")
        if not 0 < num_equal < len(pairs):
            raise UserError(
                f"The {name} databases give no pairs of both kinds: give more questions, or another --seed."
            )
    graphs = graphs_of(sets)
    progress.phase("training")
    network, encoder, vocabulary = fitted(sets.train, graphs, options.fit, progress)
    progress.phase("judging pairs of held-out databases")
    scores = scores_of(sets.held_out, graphs, network, encoder)
    found = areas(sets.held_out, scores, options.num_resamples, options.fit.seed)
    about = {
        "num_parameters": network.num_parameters,
        "floe_version": version("floe-rl"),
        "pairs_key": sets.key,
        "training_databases": sorted({pair.database_id for pair in sets.train}),
        "held_out_databases": sorted({pair.database_id for pair in sets.held_out}),
        "num_training_pairs": len(sets.train),
        "pairs": asdict(options.pairs),
        "fit": asdict(options.fit),
        "auc": [asdict(area) for area in found],
    }
    with new_folder(options.out) as folder:
        write_network(folder, network, vocabulary, about)
    if options.as_json:
        print(json.dumps(about))
        return
    console = make_console()
    console.width = max(console.width, TABLE_WIDTH)
    render(found, console)
    progress.note(f"{network.num_parameters:,} parameters, written to {options.out}")


Graphs = dict[tuple[str, str], OperatorGraph]


def graphs_of(sets: PairSets) -> Graphs:
    """Return the graphs of every query of the pairs, by database and SQL."""
    pairs = (*sets.train, *sets.held_out)
    with closing(ContainedReader.for_schemas(sets.databases_dir)) as reader:
        tables = {name: schema_of(reader.schema(name)) for name in {pair.database_id for pair in pairs}}
    wanted = dict.fromkeys((pair.database_id, sql) for pair in pairs for sql in (pair.gold, pair.other))
    return {(database_id, sql): build(sql, tables[database_id]).graph for database_id, sql in wanted}


def fitted(
    pairs: Sequence[Pair], graphs: Graphs, plan: FitPlan, progress: Progress
) -> tuple[GraphMatchingNetwork, Encoder, Vocabulary]:
    """Return the network after training on the pairs; its vocabulary is theirs."""
    known = {(pair.database_id, sql) for pair in pairs for sql in (pair.gold, pair.other)}
    vocabulary = Vocabulary.of(graphs[key] for key in known)
    encoder = Encoder(vocabulary)
    torch.manual_seed(plan.seed)
    shape = NetworkShape(num_kinds=len(vocabulary.kinds) + 1, num_roles=len(vocabulary.roles) + 1)
    network = GraphMatchingNetwork(shape)
    examples: list[Example] = examples_of(pairs, encoded_by(graphs, encoder))
    fit(network, examples, plan, progress.note)
    return network, encoder, vocabulary


def encoded_by(graphs: Graphs, encoder: Encoder) -> Callable[[str, str], EncodedGraph]:
    """Return a function from database and SQL to the encoded graph, which encodes each once."""
    known: dict[tuple[str, str], EncodedGraph] = {}

    def encoded(database_id: str, sql: str) -> EncodedGraph:
        key = (database_id, sql)
        if key not in known:
            known[key] = encoder.encode(graphs[key])
        return known[key]

    return encoded


def scores_of(
    pairs: Sequence[Pair], graphs: Graphs, network: GraphMatchingNetwork, encoder: Encoder
) -> dict[str, np.ndarray]:
    """Return one value per pair for each method, higher for more alike."""
    encoded = encoded_by(graphs, encoder)
    encodings = [(encoded(one.database_id, one.gold), encoded(one.database_id, one.other)) for one in pairs]
    same = [graphs[one.database_id, one.gold] == graphs[one.database_id, one.other] for one in pairs]
    return {
        NETWORK: -np.array(distances(network, encodings)),
        "the same graph, yes or no": np.array(same, dtype=float),
        "token n-grams": np.array([ngram_similarity(one.gold, one.other) for one in pairs]),
        "AST edits": np.array([edit_similarity(one.gold, one.other) for one in pairs]),
    }
