"""The taskset for verifiers, from which its environments, evaluations and prime-rl make rollouts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import verifiers.v1 as vf

from floe.cluster.other_trainers.examples import examples_of
from floe.cluster.other_trainers.faults import refuse_faults

if TYPE_CHECKING:
    from floe.cluster.other_trainers.sql_reward import SqlReward

OUTCOME = "sql_outcome"  # name in a trace's `info`
OPTIONAL_COLUMNS = ("id", "system_prompt", "question", "evidence")


class SqlTaskData(vf.TaskData):  # type: ignore[misc]
    """One question; `prompt`, `id` and `system_prompt` are verifiers' own fields."""

    db_id: str
    gold_sql: tuple[str, ...]
    question: str = ""
    evidence: str = ""


def taskset_of(reward: SqlReward, rows: Iterable[Mapping[str, Any]]) -> type[vf.Taskset]:
    """Return a taskset with a task for each row, whose reward `sql` judges the last reply."""
    data = [_data_of(row) for row in rows]

    class SqlTask(vf.Task[SqlTaskData]):  # type: ignore[misc]
        @vf.reward  # type: ignore[untyped-decorator]
        async def sql(self, trace: Any) -> float:
            return await asyncio.to_thread(_judge, reward, self.data, trace)

    class SqlTaskset(vf.Taskset[SqlTask]):  # type: ignore[misc]
        def load(self) -> Iterator[SqlTask]:
            for one in data:
                yield SqlTask(one, self.config.task)

    return SqlTaskset


def _data_of(row: Mapping[str, Any]) -> SqlTaskData:
    (example,) = examples_of(1, [row["db_id"]], [row["gold_sql"]], [row.get("question")], [row.get("evidence")])
    own = {name: row[name] for name in OPTIONAL_COLUMNS if row.get(name) is not None}
    return SqlTaskData(prompt=row["prompt"], db_id=example.db_id, gold_sql=example.gold_sql, **own)


def _judge(reward: SqlReward, data: SqlTaskData, trace: Any) -> float:
    """Return the reward of the last reply. Raises UserError, by which verifiers gives the rollout an error and none."""
    examples = examples_of(1, data.db_id, [data.gold_sql], data.question, data.evidence)
    scores = reward.score_examples(examples, [trace.last_reply])
    refuse_faults(examples, scores, "")
    trace.info[OUTCOME] = scores[0].outcome.value
    assert scores[0].reward is not None  # refused above
    return scores[0].reward
