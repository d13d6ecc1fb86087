"""Shares of a step's reward that go to answers which look at no question: constants, and empty results (pure)."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence

from floe.cluster.messages import Score, ScoredGroup
from floe.reward_service.sql_text.statement import OPAQUE

MIN_QUESTIONS = 3  # unlike ones with one and the same answer, for it to be a constant
MAX_SCANNED_CHARACTERS = 10_000
_FROM = re.compile(r"\bfrom\b", re.IGNORECASE)


def constant_reward_share(groups: Sequence[ScoredGroup]) -> float:
    """Return the share of the rewards above 0 that constant answers earn; NaN where there are none.

    Constant is a statement that reads no table, and one that answers more than half of the step's questions, at least
    three of them with unlike golds.
    """
    shared = _shared_statements(groups)
    return _share(groups, lambda score: score.sql is not None and (score.sql in shared or not _reads_table(score.sql)))


def empty_reward_share(groups: Sequence[ScoredGroup]) -> float:
    """Return the share of the rewards above 0 that queries without a row earn; NaN where there are none."""
    return _share(groups, lambda score: score.is_empty)


def _share(groups: Sequence[ScoredGroup], is_hollow: Callable[[Score], bool]) -> float:
    earned = [score for group in groups for score in group.scores if score.reward is not None and score.reward > 0]
    total = sum(score.reward or 0.0 for score in earned)
    return sum(score.reward or 0.0 for score in earned if is_hollow(score)) / total if total else math.nan


def _shared_statements(groups: Sequence[ScoredGroup]) -> set[str]:
    golds: defaultdict[str, set[tuple[str, tuple[str, ...]]]] = defaultdict(set)
    asked = {_asked(group) for group in groups}
    for group in groups:
        for sql in {score.sql for score in group.scores if score.sql is not None}:
            golds[sql].add(_asked(group))
    least = max(MIN_QUESTIONS, len(asked) // 2 + 1)
    return {sql for sql, found in golds.items() if len(found) >= least}


def _asked(group: ScoredGroup) -> tuple[str, tuple[str, ...]]:
    question = group.rollout.question
    return question.database_id, question.gold_sql


def _reads_table(sql: str) -> bool:
    return _FROM.search(OPAQUE.sub(" x ", sql[:MAX_SCANNED_CHARACTERS])) is not None
