"""Stepwise CTE matching, the rule-based reward of Graph-Reward-SQL (StepRTM; arXiv 2505.12380), pure.

    credit of step k = pieces of step k that the gold has and no earlier step took / pieces of the gold

Steps are the CTEs of the answer's outermost WITH in their order, then the statement after them. Pieces are the parts of
an operator tree: a scan by its table, a condition, a group key, a sort key, DISTINCT, LIMIT, an outer join, a set
operation, and each column that the statement returns; columns that a CTE returns are no result and earn nothing; nor
does a CTE that nothing reads. The credits add up to 1 at most, and to 1 where nothing of the gold is missing. The
increment as published is not known beyond "newly matched structure": that a piece is the unit is a choice made here.

With the credits alone, pieces that the gold lacks cost nothing, and a query of every table and column earns most
credits. So they are multiplied by the precision, the share of the answer's own pieces that the gold has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from floe.reward_service.graph.operators import Piece

Steps = Sequence[Sequence[Piece]]


def step_credits(answer: Steps, gold: Steps) -> list[float]:
    """Return one credit for each step of the answer; the gold may be in CTE form or not."""
    missing = Counter(piece for step in gold for piece in step)
    num_pieces = missing.total()
    credits = []
    for step in answer:
        matched = Counter(step) & missing
        missing -= matched
        credits.append(matched.total() / num_pieces if num_pieces else 0.0)
    return credits


def precision(answer: Steps, gold: Steps) -> float:
    """Return the share of the answer's pieces that the gold has, 0 to 1; 1 without any."""
    own = Counter(piece for step in answer for piece in step)
    missing = Counter(piece for step in gold for piece in step)
    return (own & missing).total() / own.total() if own else 1.0
