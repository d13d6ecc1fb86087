"""Deals an update's packs out to the learner's ranks, balanced by tokens (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from floe.learner.packing.packs import Pack, PrefixGroup, make_packs


@dataclass(frozen=True, slots=True, kw_only=True)
class RankShare:
    """One rank's part of an update. All ranks make `num_rounds` backward passes, of an empty pack where none is left,
    because ZeRO reduces gradients across the ranks in every one."""

    packs: tuple[Pack, ...]
    numbers: tuple[int, ...]  # of the packs among those of all ranks
    num_rounds: int  # the most packs of any rank


def rank_share(
    groups: Sequence[PrefixGroup], max_pack_tokens: int, rank: int, num_ranks: int, max_pack_groups: int | None = None
) -> RankShare:
    packs = make_packs(groups, max_pack_tokens, max_pack_groups)
    dealt = packs_of_ranks([pack.input_ids.shape[1] for pack in packs], num_ranks)
    return RankShare(
        packs=tuple(packs[index] for index in dealt[rank]),
        numbers=tuple(dealt[rank]),
        num_rounds=max(map(len, dealt)),
    )


def packs_of_ranks(num_tokens: Sequence[int], num_ranks: int) -> list[list[int]]:
    """Return for each rank the indices of its packs, ascending; `num_tokens` is each pack's length.

    The longest pack goes first, to the rank with the fewest tokens (longest processing time, Graham 1969: the fullest
    rank has at most 4/3 of the best split's). Ranks may differ in their number of packs, and have none.
    """
    loads = [0] * num_ranks
    dealt: list[list[int]] = [[] for _ in range(num_ranks)]
    for index in sorted(range(len(num_tokens)), key=lambda i: (-num_tokens[i], i)):
        rank = loads.index(min(loads))
        loads[rank] += num_tokens[index]
        dealt[rank].append(index)
    return [sorted(packs) for packs in dealt]
