"""Packs groups with each prompt once: tokens, positions, layout, and what each scored token needs (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from floe.learner.packing.pack_index import PackIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One continuation of a prefix. Tokens from `loss_from` on are scored; `weight` is each one's share of the loss."""

    token_ids: tuple[int, ...]
    loss_from: int = 0
    weight: float
    advantage: float = 0.0
    # log-probabilities of the scored tokens; empty when there are none to compare with
    engine_logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixGroup:
    """A shared prefix and the branches that continue it, blind to each other."""

    prefix_ids: tuple[int, ...]  # at least one token
    branches: tuple[Branch, ...]
    name: str = ""  # the question's, for messages to people

    @property
    def num_tokens(self) -> int:
        return len(self.prefix_ids) + sum(len(branch.token_ids) for branch in self.branches)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLayout:
    """Place of one group in a pack of T tokens: a causal span, and N branches padded to C tokens for attention only.

    A group of one branch has nothing to share: the branch lies in the span, behind its prefix, and N is 0.
    """

    prefix_start: int
    prefix_end: int
    branch_index: torch.Tensor  # [N, C] int64 positions in the pack; padding repeats the branch's last token
    branch_is_real: torch.Tensor  # [N, C] bool
    real_rows: torch.Tensor  # [R] int64, the true positions in the flattened [N C]
    branch_lengths: tuple[int, ...]  # [N], C is the largest

    @property
    def num_prefix(self) -> int:
        return self.prefix_end - self.prefix_start

    @property
    def width(self) -> int:
        return max(self.branch_lengths, default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """One micro-batch. T packed tokens, S scored tokens."""

    input_ids: torch.Tensor  # [1, T] int64
    position_ids: torch.Tensor  # [1, T] int64, restarting after each prefix
    layout: tuple[GroupLayout, ...]  # which positions are prefixes and which are branches
    index: PackIndex  # the same for attention over all groups at once
    source: torch.Tensor  # [S] int64, the position whose hidden state predicts the token
    target: torch.Tensor  # [S] int64, the token predicted
    weight: torch.Tensor  # [S] float32, share of the loss
    advantage: torch.Tensor  # [S] float32
    engine_logprob: torch.Tensor  # [S] float32, NaN where unknown
    sequence: torch.Tensor  # [S] int64, the number of the token's branch in the pack; a branch is never split
    sequence_names: tuple[str, ...]  # of each branch in the pack, its group's

    def to(self, device: torch.device) -> Pack:
        """Return the same pack on the device where the policy computes."""
        if self.input_ids.device == device:
            return self
        layout = tuple(replace(group, **_moved_tensors(group, device)) for group in self.layout)
        return replace(self, layout=layout, index=self.index.to(device), **_moved_tensors(self, device))


def _moved_tensors(record: GroupLayout | Pack, device: torch.device) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: value.to(device) for name, value in values.items() if isinstance(value, torch.Tensor)}


def make_packs(groups: Sequence[PrefixGroup], max_pack_tokens: int, max_pack_groups: int | None = None) -> list[Pack]:
    """Fill packs in order up to the token budget, with at most `max_pack_groups`.

    A group over the budget is split by branches, sharing its prefix; each part counts as a group.
    """
    packs: list[Pack] = []
    waiting: list[PrefixGroup] = []
    num_waiting_tokens = 0
    for group in groups:
        for piece in _split(group, max_pack_tokens):
            is_full = num_waiting_tokens + piece.num_tokens > max_pack_tokens or len(waiting) == max_pack_groups
            if waiting and is_full:
                packs.append(_pack(waiting))
                waiting, num_waiting_tokens = [], 0
            waiting.append(piece)
            num_waiting_tokens += piece.num_tokens
    if waiting:
        packs.append(_pack(waiting))
    return packs


def empty_pack() -> Pack:
    """Return the smallest pack that runs through the whole policy; its one scored token has weight 0."""
    return _pack([PrefixGroup(prefix_ids=(0,), branches=(Branch(token_ids=(0,), weight=0.0),))])


def share_prefixes(sequences: Sequence[tuple[tuple[int, ...], Branch]]) -> PrefixGroup:
    """Return one group from (prompt, answer) pairs: their longest common prompt prefix becomes the group's prefix.

    The rest of each prompt goes in front of its answer, unscored. Raises ValueError when the prompts differ in their
    first token, because a prefix has at least one.
    """
    prompts = [prompt for prompt, _ in sequences]
    if len({prompt[0] for prompt in prompts}) > 1:
        raise ValueError("prompts that differ in their first token have no prefix to share")
    shared = min(len(prompt) for prompt in prompts) - 1 if len(prompts) > 1 else len(prompts[0])
    first = prompts[0]
    for prompt in prompts[1:]:
        shared = next((i for i in range(shared) if prompt[i] != first[i]), shared)
    shared = max(shared, 1)
    branches = []
    for prompt, answer in sequences:
        rest = prompt[shared:]
        branches.append(
            Branch(token_ids=rest + answer.token_ids, loss_from=len(rest) + answer.loss_from, weight=answer.weight)
        )
    return PrefixGroup(prefix_ids=first[:shared], branches=tuple(branches))


def _split(group: PrefixGroup, max_pack_tokens: int) -> list[PrefixGroup]:
    pieces: list[PrefixGroup] = []
    taken: list[Branch] = []
    num_tokens = len(group.prefix_ids)
    for branch in group.branches:
        if taken and num_tokens + len(branch.token_ids) > max_pack_tokens:
            pieces.append(replace(group, branches=tuple(taken)))
            taken, num_tokens = [], len(group.prefix_ids)
        taken.append(branch)
        num_tokens += len(branch.token_ids)
    if taken:
        pieces.append(replace(group, branches=tuple(taken)))
    return pieces


def _pack(groups: Sequence[PrefixGroup]) -> Pack:
    tokens: list[int] = []
    positions: list[int] = []
    layout: list[GroupLayout] = []
    source: list[int] = []
    target: list[int] = []
    weight: list[float] = []
    advantage: list[float] = []
    engine: list[float] = []
    sequence: list[int] = []
    names: list[str] = []
    for group in groups:
        prefix_start, prefix_end = len(tokens), len(tokens) + len(group.prefix_ids)
        tokens += group.prefix_ids
        positions += range(len(group.prefix_ids))
        starts = []
        for branch in group.branches:
            start = len(tokens)
            starts.append(start)
            tokens += branch.token_ids
            positions += range(len(group.prefix_ids), len(group.prefix_ids) + len(branch.token_ids))
            scored = range(branch.loss_from, len(branch.token_ids))
            source += [start + i - 1 if i > 0 else prefix_end - 1 for i in scored]
            target += [branch.token_ids[i] for i in scored]
            weight += [branch.weight] * len(scored)
            advantage += [branch.advantage] * len(scored)
            engine += branch.engine_logprobs or [float("nan")] * len(scored)
            sequence += [len(names)] * len(scored)
            names.append(group.name)
        if len(group.branches) == 1:
            layout.append(_layout(prefix_start, len(tokens), [], []))
        else:
            lengths = [len(branch.token_ids) for branch in group.branches]
            layout.append(_layout(prefix_start, prefix_end, starts, lengths))
    return Pack(
        input_ids=torch.tensor([tokens]),
        position_ids=torch.tensor([positions]),
        layout=tuple(layout),
        index=PackIndex.of(layout),
        source=torch.tensor(source, dtype=torch.int64),
        target=torch.tensor(target, dtype=torch.int64),
        weight=torch.tensor(weight, dtype=torch.float32),
        advantage=torch.tensor(advantage, dtype=torch.float32),
        engine_logprob=torch.tensor(engine, dtype=torch.float32),
        sequence=torch.tensor(sequence, dtype=torch.int64),
        sequence_names=tuple(names),
    )


def _layout(prefix_start: int, prefix_end: int, starts: Sequence[int], lengths: Sequence[int]) -> GroupLayout:
    length = torch.tensor(lengths, dtype=torch.int64)[:, None]
    column = torch.arange(max(lengths, default=0))[None, :]
    is_real = column < length
    return GroupLayout(
        prefix_start=prefix_start,
        prefix_end=prefix_end,
        branch_index=torch.tensor(starts, dtype=torch.int64)[:, None] + torch.minimum(column, length - 1),
        branch_is_real=is_real,
        real_rows=is_real.flatten().nonzero()[:, 0],
        branch_lengths=tuple(lengths),
    )
