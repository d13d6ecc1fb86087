"""Reads parts of a run's `rollouts.sqlite`, also while the run writes it."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from cluster.messages import Outcome
from cluster.reports.page.rollout_sample import GroupOutline
from cluster.reports.page.same_sql import CandidateRow, GroupRows
from cluster.reports.rollout_log import rollouts

MAX_COMPLETION_CHARS = 3_000


class RolloutRows:
    """Queries that go through the index of the steps: the file is never read whole."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        # One state of the file for all queries, while the run may add a step or have one make room.
        connection.exec_driver_sql("BEGIN")

    def outcomes(self) -> dict[int, dict[Outcome, int]]:
        """Number of candidates by step and outcome; a file without the index of both is read through for it."""
        columns = (rollouts.c.step, rollouts.c.outcome)
        found: dict[int, dict[Outcome, int]] = {}
        for step, outcome, count in self._connection.execute(sa.select(*columns, sa.func.count()).group_by(*columns)):
            found.setdefault(step, {})[Outcome(outcome)] = count
        return found

    def outlines(self, step: int) -> list[GroupOutline]:
        """The groups of a step, in their order."""
        columns = (rollouts.c.group_index, rollouts.c.question_id, rollouts.c.outcome)
        query = sa.select(*columns, sa.func.count()).where(rollouts.c.step == step).group_by(*columns)
        found: dict[int, tuple[str, dict[Outcome, int]]] = {}
        for group_index, question_id, outcome, count in self._connection.execute(query):
            found.setdefault(group_index, (question_id, {}))[1][Outcome(outcome)] = count
        return [
            GroupOutline(step=step, group_index=index, question_id=question_id, outcomes=outcomes)
            for index, (question_id, outcomes) in sorted(found.items())
        ]

    def groups(self, step: int, indices: Sequence[int]) -> list[GroupRows]:
        """With every candidate, in their order."""
        c = rollouts.c
        query = (
            sa.select(
                c.group_index, c.question_id, c.database_id, c.question, c.adapter_version, c.sample_index,
                sa.func.substr(c.completion, 1, MAX_COMPLETION_CHARS + 1).label("completion"),
                c.sql, c.reward, c.outcome, c.message, c.num_tokens, c.truncated,
            )
            .where(c.step == step, c.group_index.in_(indices))
            .order_by(c.group_index, c.sample_index)
        )  # fmt: skip
        by_group: dict[int, list[sa.Row]] = {}
        for row in self._connection.execute(query):
            by_group.setdefault(row.group_index, []).append(row)
        return [_group(step, rows) for rows in by_group.values()]


def _group(step: int, rows: Sequence[sa.Row]) -> GroupRows:
    first = rows[0]
    return GroupRows(
        step=step,
        group_index=first.group_index,
        question_id=first.question_id,
        database_id=first.database_id,
        question=first.question,
        adapter_version=first.adapter_version,
        candidates=tuple(
            CandidateRow(
                sample_index=row.sample_index,
                completion=row.completion,
                sql=row.sql,
                reward=row.reward,
                outcome=Outcome(row.outcome),
                message=row.message,
                num_tokens=row.num_tokens,
                truncated=bool(row.truncated),
            )
            for row in rows
        ),
    )
