"""The reward function for TRL's trainers."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from floe.cluster.messages import Score
from floe.cluster.other_trainers.completion_text import listed
from floe.cluster.other_trainers.examples import DATABASE, GOLD, examples_of
from floe.cluster.other_trainers.faults import refuse_faults
from floe.configs.errors import UserError

if TYPE_CHECKING:
    from floe.cluster.other_trainers.sql_reward import SqlReward

OUTCOMES_COLUMN = "sql_outcome"
MATCH_METRIC, EXECUTES_METRIC = "sql/match", "sql/executes"
REMEDY = ", or give trl(on_fault='none'), with which TRL leaves such completions out"
# What TRL gives a reward function beside the columns of the dataset.
GIVEN_BY_TRL = ("completion_ids", "environments", "trainer_state")


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
        self._has_warned = False

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
        _refuse_missing_columns({DATABASE: db_id, GOLD: gold_sql}, [one for one in others if one not in GIVEN_BY_TRL])
        completions = listed(completions)
        examples = examples_of(len(completions), db_id, gold_sql, question, evidence, prompts)
        scores = self._reward.score_examples(examples, completions)
        if self._on_fault == "raise":
            refuse_faults(examples, scores, REMEDY)
        elif scores and all(score.reward is None for score in scores):
            self._warn_once(scores[0])
        if log_extra is not None:
            log_extra(OUTCOMES_COLUMN, [score.outcome.value for score in scores])
        if log_metric is not None:
            _log_shares(scores, log_metric)
        return [score.reward for score in scores]

    def _warn_once(self, score: Score) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"All completions of a call got no reward, the first since {score.message.rstrip('.')}: nothing is "
                "learnt from them; SqlReward.check names the rows. Later calls of this kind are not reported.",
                stacklevel=3,
            )


def _refuse_missing_columns(needed: Mapping[str, object], others: Sequence[str]) -> None:
    missing = [name for name, column in needed.items() if column is None]
    if not missing:
        return
    near = any(difflib.get_close_matches(name, others, n=1) for name in missing)
    arrived = f" (what arrived: {', '.join(others)})" if near else ""
    raise UserError(
        f"The reward was given no column {' and no column '.join(missing)}{arrived}: keep the columns {DATABASE} and "
        f"{GOLD} in the dataset, and set remove_unused_columns=False where the trainer's configuration has it."
    )


def _log_shares(scores: Sequence[Score], log_metric: Callable[[str, float], None]) -> None:
    judged = [score.outcome for score in scores if score.outcome.says_correctness]
    if judged:
        log_metric(MATCH_METRIC, sum(one.value == "match" for one in judged) / len(judged))
        log_metric(EXECUTES_METRIC, sum(one.executes for one in judged) / len(judged))
