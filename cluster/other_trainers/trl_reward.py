"""The reward function for TRL's trainers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from floe.cluster.messages import Score
from floe.cluster.other_trainers.examples import examples_of
from floe.cluster.other_trainers.faults import refuse_faults
from floe.configs.errors import UserError

if TYPE_CHECKING:
    from floe.cluster.other_trainers.sql_reward import SqlReward

OUTCOMES_COLUMN = "sql_outcome"
MATCH_METRIC, EXECUTES_METRIC = "sql/match", "sql/executes"
REMEDY = ", or give trl(on_fault='none'), with which TRL leaves such completions out"


class TrlReward:
    """A reward function with a name, which can be pickled with the `SqlReward` that made it.

    It logs the outcomes in TRL's table of completions, and the shares that match and that run among its metrics.
    """

    def __init__(self, reward: SqlReward, on_fault: Literal["raise", "none"]) -> None:
        if on_fault not in ("raise", "none"):
            raise UserError(f"on_fault is {on_fault!r}: give 'raise' or 'none'.")
        self.__name__ = "sql_reward"
        self._reward = reward
        self._on_fault = on_fault

    def __call__(
        self,
        prompts: Sequence[Any] | None = None,
        completions: Sequence[Any] = (),
        db_id: Sequence[str] | None = None,
        gold_sql: Sequence[str | Sequence[str]] | None = None,
        *,
        question: Sequence[str] | None = None,
        evidence: Sequence[str] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **others: Any,
    ) -> list[float | None]:
        """Return a reward for each completion, as `reward.design` says; None alone with `on_fault="none"`.

        Raises UserError for a missing column, a gold query that fails and a fault of the machine.
        """
        examples = examples_of(len(completions), db_id, gold_sql, question, evidence, prompts)
        scores = self._reward.score_examples(examples, completions)
        if self._on_fault == "raise":
            refuse_faults(examples, scores, REMEDY)
        if log_extra is not None:
            log_extra(OUTCOMES_COLUMN, [score.outcome.value for score in scores])
        if log_metric is not None:
            _log_shares(scores, log_metric)
        return [score.reward for score in scores]


def _log_shares(scores: Sequence[Score], log_metric: Callable[[str, float], None]) -> None:
    judged = [score.outcome for score in scores if score.outcome.says_correctness]
    if judged:
        log_metric(MATCH_METRIC, sum(one.value == "match" for one in judged) / len(judged))
        log_metric(EXECUTES_METRIC, sum(one.executes for one in judged) / len(judged))
