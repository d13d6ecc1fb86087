"""The reward function for verl's `custom_reward_function`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from floe.cluster.other_trainers.examples import DATABASE, examples_of
from floe.cluster.other_trainers.faults import refuse_faults
from floe.configs.errors import UserError

if TYPE_CHECKING:
    from floe.cluster.other_trainers.sql_reward import SqlReward


class VerlReward:
    """The function `compute_score`, which verl calls once for each completion; verl may call it from many threads."""

    def __init__(self, reward: SqlReward) -> None:
        self.__name__ = "compute_score"
        self._reward = reward

    def __call__(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: Any,
        extra_info: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> float:
        """Return the completion's reward.

        `ground_truth` is a query or a list of accepted ones; `extra_info` has a `db_id`, and may have `question` and
        `evidence`. Raises UserError without a database, for a gold query that fails and for a fault of the machine:
        verl has no way to leave a completion out.
        """
        info = extra_info or {}
        if DATABASE not in info:
            raise UserError(
                f"extra_info of a {data_source!r} row has no {DATABASE}: put the database's name there in the data."
            )
        columns = [[info[DATABASE]], [ground_truth], [info.get("question")], [info.get("evidence")]]
        examples = examples_of(1, *columns)
        scores = self._reward.score_examples(examples, [solution_str])
        refuse_faults(examples, scores, "")
        reward = scores[0].reward
        assert reward is not None  # refused above
        return reward
