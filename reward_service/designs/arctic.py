"""The reward of Arctic-Text2SQL-R1 (arXiv 2505.20315, section on the reward): correctness by execution, little else.

    1.0   the result is the gold's
    0.1   the query runs, with another result
    0.0   all else: it fails, is refused, runs out of its limits, or there is none

Range 0 to 1. With `reward.arctic_format_floor` the reward is that of the vendor's later recipe
(Snowflake-AI-Research/Arctic-Platform, recipes/rl/verl/txt2sql/bird_reward.py): max(reward, 0.1) for a well-formed
reply, which means exactly one `<think>` and one `</think>`, in this order, and some SQL. A failing query then earns
what a running one does.

Deviations from that recipe: a gold that fails carries no reward, where it pays 0; no LIMIT is appended to queries; the
semantics are `reward.semantics`.
"""

from __future__ import annotations

from floe.cluster.messages import Outcome
from floe.reward_service.designs.interface import JudgedCandidate, JudgedGroup, Reward

RIGHT, RUNS, FAILS = 1.0, 0.1, 0.0


class Arctic:
    def __init__(self, *, format_floor: bool = False) -> None:
        self._has_floor = format_floor

    def __call__(self, group: JudgedGroup) -> list[Reward]:
        return [Reward(self._value(one)) for one in group.candidates]

    def _value(self, one: JudgedCandidate) -> float:
        value = execution_reward(one)
        return max(value, RUNS) if self._has_floor and is_well_formed(one) else value


def execution_reward(one: JudgedCandidate) -> float:
    """Return 1.0 for the gold's result, 0.1 for another result, and 0.0 for all else."""
    if one.outcome is Outcome.MATCH:
        return RIGHT
    return RUNS if one.outcome.executes else FAILS


def is_well_formed(one: JudgedCandidate) -> bool:
    """Return whether the reply has one closed thought and some SQL."""
    reply = one.completion or ""
    if one.sql is None or reply.count("<think>") != 1 or reply.count("</think>") != 1:
        return False
    return reply.index("<think>") < reply.index("</think>")
