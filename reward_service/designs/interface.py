"""The input and output of a reward design (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol

from floe.cluster.messages import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCandidate:
    """One candidate; `completion` is None where bare SQL is scored, `sql` where the completion holds none."""

    outcome: Outcome  # by the design's semantics; `not_executed` where the design runs nothing
    sql: str | None  # as it was executed
    completion: str | None  # the whole answer, with what the prompt had begun of it


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedGroup:
    """All candidates of one question, each with a reward: groups without a verdict are never passed to a design."""

    question: str  # its text; empty where bare SQL is scored without it
    evidence: str
    database_id: str
    gold_sql: tuple[str, ...]  # any of them is accepted
    candidates: tuple[JudgedCandidate, ...]  # those of one group, in sample order


class Reward(NamedTuple):
    """A reward `value`; `terms` are its summands by name, empty where it is not a sum. `note` goes into the log.

    `weights`, one above or equal to 0 for each term, say how much a term counts where terms are normalised one by one
    (`algorithm.advantage_terms=gdpo`); they don't change `value`.
    """

    value: float
    terms: Mapping[str, float] = MappingProxyType({})  # one for all: a term put into it would be everyone's
    note: str = ""
    weights: Mapping[str, float] = MappingProxyType({})


class RewardDesign(Protocol):
    """What rewards the candidates of a question: an object that is called with a group, or a function.

    It returns a finite number, or a `Reward`, for each candidate, in their order. Several threads may call it. Two
    attributes are optional: `executes` (False: candidates are not run, and each outcome is `not_executed`) and
    `semantics` (`bird`, `spider` or `strict`, in place of `reward.semantics`).

    It raises GroupUnscorable where it can't do its work on the group, and GoldUnusable where no gold is of use to it,
    each with a sentence for the log: the group then carries no reward, and is counted.
    """

    def __call__(self, group: JudgedGroup) -> Sequence[Reward | float]: ...


# What the scorer calls: the built-in designs, and plug-ins after a check of what they return.
CheckedRewards = Callable[[JudgedGroup], Sequence[Reward]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A design as the scorer uses it."""

    rewards: CheckedRewards
    executes: bool = True  # whether candidates are run for it
    semantics: str | None = None  # its own comparator; None: the run's, reward.semantics
    reader: Reader | None = None  # reader of text that a model has written
    judge: AskedJudge | None = None  # model that the design asks

    def close(self) -> None:
        """End what the design has started."""
        for one in (self.reader, self.judge):
            if one is not None:
                one.close()


class Reader(Protocol):
    """A reader that the design uses for texts; the scorer ends it and counts its work."""

    num_faults: int

    def close(self) -> None: ...


class AskedJudge(Protocol):
    """A model that the design asks; the scorer ends its connections."""

    def close(self) -> None: ...
