"""Reads parts of a run's `rollouts.sqlite`, also while the run writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from floe.cluster.messages import Outcome
from floe.cluster.report_page.rollout_sample import GroupOutline
from floe.cluster.report_page.same_sql import CandidateRow, GroupRows
from floe.cluster.tracking.rollout_log import rollouts

MAX_COMPLETION_CHARS = 3_000


class RolloutRows:
    """Queries that use the index of the steps: the file is never read whole.

    Each raises ValueError or TypeError for values that no run writes.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        # One state of the file for all queries, while the run may add a step or remove one to make room.
        connection.exec_driver_sql("BEGIN")

    def outcomes(self) -> dict[int, dict[Outcome, int]]:
        """Return the number of candidates by step and outcome; a file without the index of both is read through."""
        columns = (rollouts.c.step, rollouts.c.outcome)
        found: dict[int, dict[Outcome, int]] = {}
        for step, outcome, count in self._connection.execute(sa.select(*columns, sa.func.count()).group_by(*columns)):
            found.setdefault(int(step), {})[Outcome(outcome)] = int(count)
        return found

    def outlines(self, step: int) -> list[GroupOutline]:
        """Return the groups of a step, in their order."""
        columns = (rollouts.c.group_index, rollouts.c.question_id, rollouts.c.outcome)
        query = sa.select(*columns, sa.func.count()).where(rollouts.c.step == step).group_by(*columns)
        found: dict[int, tuple[str, dict[Outcome, int]]] = {}
        for group_index, question_id, outcome, count in self._connection.execute(query):
            found.setdefault(int(group_index), (str(question_id), {}))[1][Outcome(outcome)] = int(count)
        return [
            GroupOutline(step=step, group_index=index, question_id=question_id, outcomes=outcomes)
            for index, (question_id, outcomes) in sorted(found.items())
        ]

    def groups(self, step: int, indices: Sequence[int]) -> list[GroupRows]:
        """Return the groups with every candidate, in their order."""
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
        by_group: dict[int, list[sa.Row[*tuple[Any, ...]]]] = {}
        for row in self._connection.execute(query):
            by_group.setdefault(row.group_index, []).append(row)
        return [_group(step, rows) for rows in by_group.values()]


def _group(step: int, rows: Sequence[sa.Row[*tuple[Any, ...]]]) -> GroupRows:
    first = rows[0]
    return GroupRows(
        step=step,
        group_index=first.group_index,
        question_id=str(first.question_id),
        database_id=str(first.database_id),
        question=str(first.question),
        adapter_version=int(first.adapter_version),
        candidates=tuple(
            CandidateRow(
                sample_index=int(row.sample_index),
                completion=str(row.completion),
                sql=None if row.sql is None else str(row.sql),
                reward=None if row.reward is None else float(row.reward),
                outcome=Outcome(row.outcome),
                message=str(row.message),
                num_tokens=int(row.num_tokens),
                truncated=bool(row.truncated),
            )
            for row in rows
        ),
    )
