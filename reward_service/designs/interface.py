"""The input and output of a reward design (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from floe.cluster.messages import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCandidate:
    """One candidate; `completion` is None where bare SQL is scored, `sql` where the completion holds none."""

    outcome: Outcome  # by the design's semantics; `not_executed` where the design runs nothing
    sql: str | None
    completion: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedGroup:
    """All candidates of one question, each with a reward: groups without a verdict are never passed to a design."""

    question: str
    evidence: str
    database_id: str
    gold_sql: tuple[str, ...]
    candidates: tuple[JudgedCandidate, ...]


class Reward(NamedTuple):
    """A reward `value`; `terms` are its summands by name, empty where it is not a sum. `note` goes into the log."""

    value: float
    terms: dict[str, float] = {}  # noqa: RUF012 - never changed
    note: str = ""


class RewardDesign(Protocol):
    """Computes the rewards of a group, in the order of its candidates. Called from several threads.

    Raises GroupUnscorable and GoldUnusable, each with a sentence for the log.
    """

    def __call__(self, group: JudgedGroup) -> Sequence[Reward]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A design as the scorer uses it."""

    rewards: RewardDesign
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
