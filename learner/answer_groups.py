"""Groups answers by database, so that a pack computes the schema's tokens once (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from floe.cluster.messages import WarmStartExample
from floe.learner.packing.packs import Branch, PrefixGroup, share_prefixes
from floe.learner.supervised_batches import by_database


def answer_groups(examples: Sequence[WarmStartExample]) -> list[PrefixGroup]:
    """Return a group per database; the weights sum to 1 over all answer tokens, so that the loss is a mean of them."""
    num_tokens = sum(len(example.answer_token_ids) for example in examples)
    return [
        share_prefixes(
            [(e.prompt_token_ids, Branch(token_ids=e.answer_token_ids, weight=1 / num_tokens)) for e in same_database]
        )
        for same_database in by_database(examples)
    ]
