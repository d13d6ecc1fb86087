"""Memory for a learner's work on a pack, from a source: measured on tensors without memory, or a bound (pure)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from floe.cluster.memory_plan.learner.learner_memory import LearnerWork, dropout_work, learner_work
from floe.cluster.memory_plan.learner.packs import heaviest_pack
from floe.cluster.memory_plan.shapes.model_shape import ModelShape
from floe.configs.schema import RunConfig


class WorkSource(Protocol):
    """Gives what the phases of a learner add to its state; `num_tokens` are those of a pack."""

    is_measured: bool

    def learning(self, config: RunConfig, num_tokens: int) -> LearnerWork: ...

    def warm_start(self, config: RunConfig, num_tokens: int) -> LearnerWork: ...

    def own_forward(self, config: RunConfig) -> LearnerWork:
        """Return the work of the model's own forward and backward pass over one text of the whole context."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The bytes that were counted for a pack of `num_tokens`."""

    num_tokens: int
    kept_bytes: int  # at the end of the forward pass
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLine:
    """Straight line through two points for each figure: what a pack takes grows with its tokens."""

    few: Point
    many: Point

    def at(self, num_tokens: int) -> LearnerWork:
        share = (num_tokens - self.few.num_tokens) / (self.many.num_tokens - self.few.num_tokens)
        kept, peak = (
            max(0, round(few + share * (many - few)))
            for few, many in (
                (self.few.kept_bytes, self.many.kept_bytes),
                (self.few.peak_bytes, self.many.peak_bytes),
            )
        )
        return LearnerWork(kept_activations=min(kept, peak), layer_at_work=peak - min(kept, peak), logits=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """Functions that count: each returns the lines of its kinds of packs, with gradient checkpointing or without."""

    learning: Callable[[bool], tuple[WorkLine, ...]]
    warm_start: Callable[[bool], tuple[WorkLine, ...]]
    own_forward: Callable[[bool], Point]


class MeasuredWork:
    """The work of the heavier of one long group and of many short ones, counted when it is first asked for."""

    is_measured = True

    def __init__(self, counting: Counting) -> None:
        self._counting = counting
        self._lines: dict[tuple[str, bool], tuple[WorkLine, ...]] = {}
        self._own: dict[bool, Point] = {}

    def learning(self, config: RunConfig, num_tokens: int) -> LearnerWork:
        return self._heaviest("learning", self._counting.learning, config, num_tokens)

    def warm_start(self, config: RunConfig, num_tokens: int) -> LearnerWork:
        return self._heaviest("warm start", self._counting.warm_start, config, num_tokens)

    def own_forward(self, config: RunConfig) -> LearnerWork:
        checkpointing = config.learner.gradient_checkpointing
        if checkpointing not in self._own:
            self._own[checkpointing] = self._counting.own_forward(checkpointing)
        found = self._own[checkpointing]
        # Each layer's part grows with the tokens where there are no scores in memory.
        share = config.model.max_context_tokens / found.num_tokens
        return LearnerWork(
            kept_activations=int(share * found.kept_bytes),
            layer_at_work=int(share * (found.peak_bytes - found.kept_bytes)),
            logits=0,
        )

    def _heaviest(
        self, kind: str, count: Callable[[bool], tuple[WorkLine, ...]], config: RunConfig, num_tokens: int
    ) -> LearnerWork:
        key = kind, config.learner.gradient_checkpointing
        if key not in self._lines:
            self._lines[key] = count(config.learner.gradient_checkpointing)
        return max((line.at(num_tokens) for line in self._lines[key]), key=lambda work: work.num_bytes)


class BoundedWork:
    """The work by formulae that bound it: on a host, and for a model whose layers can't be counted."""

    is_measured = False

    def __init__(self, shape: ModelShape) -> None:
        self._shape = shape

    def learning(self, config: RunConfig, num_tokens: int) -> LearnerWork:
        return self._with_dropout(config, num_tokens, config.lora.dropout)

    def warm_start(self, config: RunConfig, num_tokens: int) -> LearnerWork:
        return self._with_dropout(config, num_tokens, config.warm_start.lora_dropout)

    def own_forward(self, config: RunConfig) -> LearnerWork:
        return self._with_dropout(config, config.model.max_context_tokens, 0.0)

    def _with_dropout(self, config: RunConfig, num_tokens: int, dropout: float) -> LearnerWork:
        work = learner_work(config, self._shape, heaviest_pack(config, self._shape.num_heads, num_tokens))
        return dropout_work(config, self._shape, work, num_tokens, dropout)
