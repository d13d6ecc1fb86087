"""A reward design: right results, written tidily."""

from __future__ import annotations

import re

from floe.plugins import JudgedCandidate, JudgedGroup, Reward, execution_reward

# `SELECT *`, `SELECT a, *` and `t.*`, not `COUNT(*)`. A model writes the text, so the pattern has to take linear time.
STAR = re.compile(r"""(?:\bselect\s+(?:distinct\s+)?|,\s*|(?<=[\w"`\]])\s*\.\s*)\*""", re.IGNORECASE)


class TidySql:
    """floe's reward by execution, less what an untidy query costs; a failing query earns 0 all the same."""

    def __init__(self, star_penalty: float = 0.2, length_penalty: float = 0.1, max_characters: int = 500) -> None:
        """Take the two penalties, each at least 0. Raises ValueError for a negative one."""
        if min(star_penalty, length_penalty) < 0:
            raise ValueError("a penalty is negative: it is taken off, so give at least 0")
        self._star_penalty = star_penalty
        self._length_penalty = length_penalty
        self._max_characters = max_characters

    def __call__(self, group: JudgedGroup) -> list[Reward]:
        """Return a reward for each candidate of one question, in their order."""
        return [self._reward(candidate) for candidate in group.candidates]

    def _reward(self, candidate: JudgedCandidate) -> Reward:
        sql = candidate.sql or ""
        terms = {"execution": execution_reward(candidate), "star": 0.0, "length": 0.0}
        if candidate.outcome.executes and STAR.search(sql):
            terms["star"] = -self._star_penalty
        if candidate.outcome.executes and len(sql) > self._max_characters:
            terms["length"] = -self._length_penalty
        return Reward(sum(terms.values()), terms)
