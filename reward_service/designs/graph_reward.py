"""The rewards of Graph-Reward-SQL (arXiv 2505.12380): without execution, from operator graphs of answer and gold.

    outcome     -1      no query: sqlglot can't parse it, its reading is over the limit or fails, it is refused, or
                        there is none
                -0.6    no plan: it can't be resolved on the database's schema
                max(0, 1 - d)    d is the distance of the two graphs by a graph matching network ("GMNScore")
    stepwise    share of the gold's structure that the answer's CTEs build, each piece credited once ("StepRTM"), times
                the share of the answer's own structure that the gold has; without the latter with
                `reward.graph_stepwise_variant: published`

    reward = graph_outcome_weight * outcome + graph_stepwise_weight * stepwise

Range at weights 1 and 0: -1 to 1. The best over the golds. Nothing is run: two queries that are equal on the data alone
look different, and queries that the network takes for equal may not be.

Deviations: sqlglot's optimizer in place of Calcite, so the line between "no query" and "no plan" is sqlglot's; the
network is trained by `floe train-graph-reward`, not the published one (see `reward_service/graph/network.py`); graphs
that are the same are at distance 0 without it; the published increment of the stepwise term is not known (see
`reward_service/graph/stepwise.py`), and it is 0 for an answer without a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from floe.cluster.messages import Outcome
from floe.reward_service.designs.interface import JudgedCandidate, JudgedGroup, Reward
from floe.reward_service.graph.build import BuiltQuery
from floe.reward_service.graph.stepwise import Steps, precision, step_credits
from floe.reward_service.graph.terms import OperatorGraph
from floe.reward_service.reading.forms import FAULTS, Form, ReadQueries, Unreadable, note_of
from floe.reward_service.unscorable import GoldUnusable, GroupUnscorable
from floe.reward_service.verdict import DatabaseUnavailable, message_of

NO_QUERY, NO_PLAN = -1.0, -0.6

Distances = Callable[[Sequence[tuple[OperatorGraph, OperatorGraph]]], Sequence[float]]


class GraphReward:
    def __init__(
        self,
        read: ReadQueries,
        distances: Distances | None,
        outcome_weight: float,
        stepwise_weight: float,
        *,
        extras_cost: bool = True,
    ) -> None:
        """Keep the distances, None where the outcome has no weight; `extras_cost` counts the precision of the steps."""
        self._read = read
        self._distances = distances
        self._extras_cost = extras_cost
        self._weights = {"outcome": outcome_weight, "stepwise": stepwise_weight}

    def __call__(self, group: JudgedGroup) -> list[Reward]:
        """Return the rewards. Raises GoldUnusable and GroupUnscorable."""
        asked = list(dict.fromkeys(one.sql for one in group.candidates if one.sql is not None and not _is_refused(one)))
        try:
            forms = self._read(group.database_id, [*group.gold_sql, *asked])
        except DatabaseUnavailable as error:
            raise GroupUnscorable(message_of(error)) from error
        golds = _usable([forms[sql] for sql in group.gold_sql])
        answers = {sql: form for sql in asked if isinstance(form := forms[sql], BuiltQuery)}
        rewards = dict(zip(answers, self._best_rewards(list(answers.values()), golds), strict=True))
        return [
            self._reward(one, forms, rewards)._replace(note=note_of(forms.get(one.sql or "")))
            for one in group.candidates
        ]

    def _reward(self, one: JudgedCandidate, forms: Mapping[str, Form], rewards: dict[str, Reward]) -> Reward:
        if one.sql is None or _is_refused(one):
            return self._weighted(NO_QUERY, 0.0)
        form = forms[one.sql]
        if isinstance(form, Unreadable) and form.kind in ("syntax", *FAULTS):
            return self._weighted(NO_QUERY, 0.0)
        return rewards.get(one.sql) or self._weighted(NO_PLAN, 0.0)

    def _best_rewards(self, answers: Sequence[BuiltQuery], golds: Sequence[BuiltQuery]) -> list[Reward]:
        """Return the reward of each answer by the gold that gives it most."""
        pairs = [(gold.graph, answer.graph) for answer in answers for gold in golds]
        found = iter(self._distances(pairs) if self._distances and pairs else [1.0] * len(pairs))
        best = []
        for answer in answers:
            each = [
                self._weighted(max(0.0, 1.0 - next(found)), self._stepwise(answer.steps, gold.steps)) for gold in golds
            ]
            best.append(max(each, key=lambda reward: reward.value))
        return best

    def _stepwise(self, answer: Steps, gold: Steps) -> float:
        credits = sum(step_credits(answer, gold))
        return credits * precision(answer, gold) if self._extras_cost else credits

    def _weighted(self, outcome: float, stepwise: float) -> Reward:
        values = {"outcome": outcome, "stepwise": stepwise}
        terms = {name: weight * values[name] for name, weight in self._weights.items() if weight > 0}
        widths = {name: self._weights[name] * {"outcome": 2.0, "stepwise": 1.0}[name] for name in terms}
        return Reward(sum(terms.values()), terms, weights=widths)


def _usable(golds: Sequence[Form]) -> list[BuiltQuery]:
    usable = [gold for gold in golds if isinstance(gold, BuiltQuery)]
    if not usable:
        reason = next((gold.message for gold in golds if isinstance(gold, Unreadable)), "there is none")
        raise GoldUnusable(f"no gold becomes an operator graph: {reason}")
    return usable


def _is_refused(one: JudgedCandidate) -> bool:
    return one.outcome in (Outcome.REJECTED, Outcome.NO_SQL)
