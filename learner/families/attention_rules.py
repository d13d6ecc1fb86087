"""Rules that a model's attention adds to a softmax over all earlier tokens: windows, capped scores, sinks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

QUERY_BLOCK = 512  # queries of a prefix whose scores are in memory together


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionRules:
    """The rules of one layer, as transformers hands them to an attention function; None where there is none."""

    window: int | None = None  # tokens: a query sees the key of its own token and of the `window - 1` before it
    score_cap: float | None = None  # scores become cap * tanh(score / cap)
    sinks: torch.Tensor | None = None  # [H] scores of a key without a value, one for each head

    @property
    def has_plain_scores(self) -> bool:
        """Return whether PyTorch's kernels can compute it, with a mask where there is a window."""
        return self.score_cap is None and self.sinks is None

    def are_idle(self, num_positions: int) -> bool:
        """Return whether a text of so many tokens is computed as without any rule."""
        return self.has_plain_scores and (self.window is None or self.window >= num_positions)

    def first_key(self, query: int) -> int:
        """Return the first key position that the query at position `query` sees."""
        return 0 if self.window is None else max(0, query - self.window + 1)

    def capped(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores, any shape, after the cap."""
        if self.score_cap is None:
            return scores
        return torch.tanh(scores / self.score_cap) * self.score_cap

    def sees(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Return [Q, S] bool: which key positions [S] each query position [Q] sees."""
        distance = queries[:, None] - keys[None, :]
        seen = distance >= 0
        return seen if self.window is None else seen & (distance < self.window)

    def shares(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the softmax over the last dimension of scores [H, ..., S]; sinks take part.

        Computed in float32, returned in the type of the scores.
        """
        if self.sinks is None:
            return scores.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)
        sinks = self.sinks.view(-1, *(1,) * (scores.dim() - 1)).expand(*scores.shape[:-1], 1)
        joined = torch.cat([scores, sinks.to(scores.dtype)], dim=-1)
        return joined.softmax(dim=-1, dtype=torch.float32)[..., :-1].to(scores.dtype)


class HiddenKeys:
    """The keys that the queries of a pack don't see; made once for each window, on the pack's device."""

    def __init__(self, longest_prefix: int, widest_branch: int, device: torch.device) -> None:
        """Take the lengths, in tokens, of the pack's longest span and of its longest branch."""
        self._longest, self._widest, self._device = longest_prefix, widest_branch, device
        self._bands: dict[int | None, torch.Tensor] = {}

    def to(self, device: torch.device) -> HiddenKeys:
        return HiddenKeys(self._longest, self._widest, device)

    def of(self, rules: AttentionRules, queries: range, keys: range) -> torch.Tensor:
        """Return [Q, S] bool for text positions: at most a block or a branch of queries, and no key after the last."""
        # Whether a key is seen depends on the distance alone, so all masks are parts of one band.
        first = keys.start - queries.start + self._longest
        return self._band(rules)[: len(queries), first : first + len(keys)]

    def _band(self, rules: AttentionRules) -> torch.Tensor:
        if rules.window not in self._bands:
            num_queries = max(min(QUERY_BLOCK, self._longest), self._widest)
            queries = torch.arange(num_queries, device=self._device)
            keys = torch.arange(-self._longest, num_queries, device=self._device)
            self._bands[rules.window] = ~rules.sees(queries, keys)
        return self._bands[rules.window]
