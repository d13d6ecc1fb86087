"""Batches of the supervised stage: chunks of one database each, whose schema's tokens are computed once (pure)."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

from floe.cluster.messages import WarmStartExample
from floe.configs.sections.learning_sections import WarmStartSection


def batches_of_epoch(
    examples: Sequence[WarmStartExample], settings: WarmStartSection, seed: int, epoch: int
) -> list[list[WarmStartExample]]:
    """Return every example once, in batches of `batch_databases` chunks; the order derives from seed and epoch alone.

    The last batch, and a database's last chunk, may be smaller.
    """
    order = random.Random(f"{seed}/warm-start/{epoch}")
    chunks = []
    for same_database in by_database(examples):
        order.shuffle(same_database)
        chunks += in_chunks(same_database, settings)
    order.shuffle(chunks)
    starts = range(0, len(chunks), settings.batch_databases)
    return [list(chain.from_iterable(chunks[start : start + settings.batch_databases])) for start in starts]


def num_batches_of_epoch(examples: Sequence[WarmStartExample], settings: WarmStartSection) -> int:
    num_chunks = sum(len(in_chunks(same, settings)) for same in by_database(examples))
    return math.ceil(num_chunks / settings.batch_databases)


def in_chunks(same_database: Sequence[WarmStartExample], settings: WarmStartSection) -> list[list[WarmStartExample]]:
    """Return a database's examples in chunks, each of which is its share of one batch."""
    size = settings.batch_questions // settings.batch_databases
    return [list(same_database[start : start + size]) for start in range(0, len(same_database), size)]


def by_database(examples: Sequence[WarmStartExample]) -> list[list[WarmStartExample]]:
    grouped: dict[str, list[WarmStartExample]] = defaultdict(list)
    for example in examples:
        grouped[example.database_id].append(example)
    return list(grouped.values())
