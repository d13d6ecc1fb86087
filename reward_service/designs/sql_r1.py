"""The reward of SQL-R1 (arXiv 2504.08600, section "Reward function design"; code IDEA-FinAI/SQL-R1,
verl/utils/reward_score/synsql.py): the sum of four terms.

                               format  execution  result  length    `code`   `paper`
    tags wrong or no fenced SQL    -1          0       0       0        -1        -1
    the SQL fails                  +1         -2       0       0        -1      -1 + L
    it runs, with another result   +1         +2      -3       0         0         L
    the result is the gold's       +1         +2      +3       L     6 + L     6 + L

    L = 0.5 * min(c, 2048) / 2048 + s / a

in characters: c of thought and answer, s of the SQL, a of the answer. So 0 < L <= 1.5; the range is -1 to 7.5. The
format: each of `<think>`, `</think>`, `<answer>` and `</answer>` exactly once and in this order, and a fenced `sql`
block within the answer. As published the length term is not tied to the result (`reward.sql_r1_variant: paper`); the
code pays it for a right result alone (`code`).

The comparator is the design's own, the one of Spider's test suite: rows as a multiset, columns in any order, the order
of rows where the gold orders them; two empty results are equal.

Deviations from the code: a gold that fails carries no reward, while in the code it makes every query that runs right;
the order of rows counts where the gold's outermost statement has ORDER BY, not where the words stand anywhere; DISTINCT
stays in both queries, which are run as they are written; nothing that a candidate runs can write; further databases are
judged on where `reward.suite` names them. Whether the paper pays L for SQL that fails is not known: `paper` does.
"""

from __future__ import annotations

from typing import Literal

from floe.cluster.messages import Outcome
from floe.reward_service.designs.interface import JudgedCandidate, JudgedGroup, Reward
from floe.reward_service.sql_text.extraction import fenced_sql

SEMANTICS = "spider"
LONGEST_CHARS = 2048
TERM_WEIGHTS = {"format": 2.0, "execution": 4.0, "result": 6.0, "length": 1.5}  # width of each term's range
TAGS = ("<think>", "</think>", "<answer>", "</answer>")


class SqlR1:
    def __init__(self, variant: Literal["paper", "code"]) -> None:
        self._pays_length_always = variant == "paper"

    def __call__(self, group: JudgedGroup) -> list[Reward]:
        return [self._reward(one) for one in group.candidates]

    def _reward(self, one: JudgedCandidate) -> Reward:
        length = length_term(one.completion or "")
        if length is None or one.sql is None:
            return _sum(format=-1.0, execution=0.0, result=0.0, length=0.0)
        if not one.outcome.executes:
            return _sum(format=1.0, execution=-2.0, result=0.0, length=length if self._pays_length_always else 0.0)
        is_right = one.outcome is Outcome.MATCH
        is_paid = is_right or self._pays_length_always
        return _sum(format=1.0, execution=2.0, result=3.0 if is_right else -3.0, length=length if is_paid else 0.0)


def length_term(reply: str) -> float | None:
    """Return the length term L of a reply; None for a reply of broken format."""
    if any(reply.count(tag) != 1 for tag in TAGS):
        return None
    thought_from, thought_to, answer_from, answer_to = (reply.index(tag) for tag in TAGS)
    if not thought_from < thought_to < answer_from < answer_to:
        return None
    thought = reply[thought_from + len(TAGS[0]) : thought_to]
    answer = reply[answer_from + len(TAGS[2]) : answer_to]
    sql = fenced_sql(answer)
    if sql is None:
        return None
    num_chars = min(len(thought) + len(answer), LONGEST_CHARS)
    return 0.5 * num_chars / LONGEST_CHARS + len(sql) / len(answer)


def _sum(**terms: float) -> Reward:
    return Reward(sum(terms.values()), terms, weights=TERM_WEIGHTS)
