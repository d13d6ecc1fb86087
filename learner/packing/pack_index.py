"""Index of a pack's layout for attention over the whole pack: made once per pack, for all layers and passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from floe.learner.families.attention_rules import HiddenKeys

if TYPE_CHECKING:
    from floe.learner.packing.packs import GroupLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Rows cut into consecutive segments, in the form that the kernels for sequences of any length take."""

    bounds: torch.Tensor  # [segments + 1] int32: the start of each, and the end of the last
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Segments:
        bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
        return cls(bounds=bounds, longest=max(lengths, default=0))

    def to(self, device: torch.device) -> Segments:
        return Segments(bounds=self.bounds.to(device), longest=self.longest)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackIndex:
    """The pack's T tokens as sequences; B and Q are the branch and prefix tokens of the groups that have branches."""

    sequences: Segments  # of all T tokens: each span and each branch by itself
    branch_rows: torch.Tensor  # [B] int64 positions in the pack
    prefix_rows: torch.Tensor  # [Q] int64 positions in the pack
    branches: Segments  # of the B tokens, a segment for each group
    prefixes: Segments  # of the Q tokens, a segment for each group
    num_positions: int  # of the longest text: a prefix and its longest branch
    hidden_keys: HiddenKeys

    @classmethod
    def of(cls, layout: Sequence[GroupLayout]) -> PackIndex:
        """Return the index of a pack, on the CPU wherever its layout is."""
        shared = [group for group in layout if group.branch_lengths]
        return cls(
            sequences=Segments.of([length for group in layout for length in (group.num_prefix, *group.branch_lengths)]),
            branch_rows=_rows([(group.prefix_end, group.prefix_end + sum(group.branch_lengths)) for group in shared]),
            prefix_rows=_rows([(group.prefix_start, group.prefix_end) for group in shared]),
            branches=Segments.of([sum(group.branch_lengths) for group in shared]),
            prefixes=Segments.of([group.num_prefix for group in shared]),
            num_positions=max(group.num_prefix + group.width for group in layout),
            hidden_keys=HiddenKeys(
                max(group.num_prefix for group in layout), max(group.width for group in layout), torch.device("cpu")
            ),
        )

    def to(self, device: torch.device) -> PackIndex:
        return PackIndex(
            sequences=self.sequences.to(device),
            branch_rows=self.branch_rows.to(device),
            prefix_rows=self.prefix_rows.to(device),
            branches=self.branches.to(device),
            prefixes=self.prefixes.to(device),
            num_positions=self.num_positions,
            hidden_keys=self.hidden_keys.to(device),
        )


def _rows(ranges: Sequence[tuple[int, int]]) -> torch.Tensor:
    return torch.tensor([row for start, end in ranges for row in range(start, end)], dtype=torch.int64)
