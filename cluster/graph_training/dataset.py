"""Pairs of a run's training questions, made once and kept, and their split by database."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from floe.actors.databases.database_files import content_digest
from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.databases.places import database_path
from floe.cluster.graph_training.pairs import (
    Pair,
    PairPlan,
    golds_by_database,
    make_pairs,
    pairs_key,
    read_pairs,
    write_pairs,
)
from floe.cluster.terminal.progress import Progress, progress_bar
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSets:
    databases_dir: Path
    train: tuple[Pair, ...]
    held_out: tuple[Pair, ...]  # pairs of other databases
    key: str  # identifies the questions, databases and choices from which the pairs come


def load_pair_sets(config: RunConfig, plan: PairPlan, held_out_share: float, progress: Progress) -> PairSets:
    """Make pairs from the questions of split `train` alone: no evaluation of a policy meets a gold that was seen here.

    Raises UserError.
    """
    home = config.run.home_dir
    sets = sets_of_run(config)
    golds = golds_by_database(sets.train, plan)
    if len(golds) < 2:
        raise UserError(f"There is only one database, {next(iter(golds))!r}, but one must be held out: give more data.")
    digests = {name: content_digest(database_path(sets.databases_dir, name)) for name in golds}
    key = pairs_key(sets.train, digests, plan)
    path = home / "graph_pairs" / f"{key}.jsonl"
    if path.is_file():
        progress.note(f"pairs made before: {path}")
        pairs = read_pairs(path)
    else:
        with progress_bar("Making pairs", sum(map(len, golds.values()))) as advance:
            pairs = make_pairs(sets.train, sets.databases_dir, plan, advance)
        write_pairs(path, pairs)
    held = held_out_databases(list(golds), held_out_share, plan.seed)
    return PairSets(
        databases_dir=sets.databases_dir,
        train=tuple(pair for pair in pairs if pair.database_id not in held),
        held_out=tuple(pair for pair in pairs if pair.database_id in held),
        key=key,
    )


def held_out_databases(names: Sequence[str], share: float, seed: int) -> frozenset[str]:
    """Choose at least one, and leave at least one."""
    shuffled = sorted(names)
    random.Random(f"{seed} held out").shuffle(shuffled)
    return frozenset(shuffled[: min(len(shuffled) - 1, max(1, round(share * len(shuffled))))])
