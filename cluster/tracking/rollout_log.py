"""Keeps every candidate of every step in a SQLite file that a person can query while the run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from floe.actors.questions.pass_rates import PassRate
from floe.cluster.messages import Completion, Outcome, RolloutGroup, Score, ScoredGroup

Advantages = Sequence[Sequence[float | None]]

_metadata = sa.MetaData()
rollouts = sa.Table(
    "rollouts",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("group_index", sa.Integer, nullable=False),
    sa.Column("question_id", sa.Text, nullable=False, index=True),
    sa.Column("database_id", sa.Text, nullable=False),
    sa.Column("question", sa.Text, nullable=False),
    sa.Column("sample_index", sa.Integer, nullable=False),
    sa.Column("completion", sa.Text, nullable=False),
    sa.Column("sql", sa.Text),
    sa.Column("reward", sa.Float),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("seconds", sa.Float),
    sa.Column("adapter_version", sa.Integer, nullable=False),
    sa.Column("newest_adapter_version", sa.Integer, nullable=False),
    sa.Column("num_tokens", sa.Integer, nullable=False),
    sa.Column("truncated", sa.Boolean, nullable=False),
    sa.Column("advantage", sa.Float),
    sa.Column("design_s", sa.Float),  # wall time of the reward design beside running the SQL
    sa.Column("source", sa.Text),  # of the question in a mixture; NULL without one
    # Finds a step's rows, and alone holds what counts of outcomes over a whole run need.
    sa.Index("ix_rollouts_step_outcome", "step", "outcome"),
)
dropped = sa.Table(  # counts of steps whose rollouts made room: the pass rates of the run need them
    "dropped_rollouts",
    _metadata,
    sa.Column("question_id", sa.Text, nullable=False),
    sa.Column("num_samples", sa.Integer, nullable=False),
    sa.Column("num_correct", sa.Integer, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
)


class RolloutLog:
    """The table `rollouts` of one file, made when missing. A step is written whole or not at all.

    Where the file would pass its limit, the oldest steps' rows make room. One file with the latest steps can be queried
    directly; with several files, a query would have to attach each.
    """

    def __init__(self, path: Path, max_bytes: int | None = None) -> None:
        """Open the file. At most one step's rows exceed `max_bytes`, and the latest step is always in it. None: no
        limit.
        """
        self._max_bytes = max_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": 60})
        with self._engine.connect() as connection:
            # With a write-ahead log a person's open query never makes the run wait.
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        _metadata.create_all(self._engine)
        _add_missing_columns(self._engine)

    def append(self, step: int, scored_groups: Sequence[ScoredGroup], advantages: Advantages | None = None) -> None:
        """Write the candidates of a step; `advantages` runs parallel to the groups and their completions.

        A candidate without reward or advantage holds NULL there. Raises ValueError when scores or advantages don't
        match the completions one to one.
        """
        if advantages is None:
            advantages = [[None] * len(group.scores) for group in scored_groups]
        rows = [
            _row(step, i, j, group.rollout, completion, score, advantage)
            for i, (group, group_advantages) in enumerate(zip(scored_groups, advantages, strict=True))
            for j, (completion, score, advantage) in enumerate(
                zip(group.rollout.completions, group.scores, group_advantages, strict=True)
            )
        ]
        if rows:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(rollouts), rows)
                self._make_room(connection, step)

    def _make_room(self, connection: sa.Connection, newest: int) -> None:
        """Remove the oldest steps' rows, whose pages later ones take; the counts of a removed step stay."""
        if self._max_bytes is None:
            return
        oldest = sa.select(sa.func.min(rollouts.c.step)).where(rollouts.c.step < newest)
        while _used_bytes(connection) > self._max_bytes and (step := connection.scalar(oldest)) is not None:
            counts = _counts(rollouts.c.step).where(rollouts.c.step == step)
            connection.execute(sa.insert(dropped).from_select(dropped.c.keys(), counts))
            connection.execute(sa.delete(rollouts).where(rollouts.c.step == step))

    def forget_after(self, step: int) -> None:
        """Delete the candidates of later steps."""
        with self._engine.begin() as connection:
            for table in (rollouts, dropped):
                connection.execute(sa.delete(table).where(table.c.step > step))

    def pass_rates(self) -> dict[str, PassRate]:
        """Return the pass rates by question id, over the candidates that carry a reward."""
        with self._engine.connect() as connection:
            rows = [*connection.execute(_counts()), *connection.execute(sa.select(*dropped.c[:3]))]
        rates: dict[str, PassRate] = {}
        for name, num_samples, num_correct in rows:
            found = PassRate(num_samples=num_samples, num_correct=num_correct)
            rates[name] = rates[name] + found if name in rates else found
        return rates

    def close(self) -> None:
        """Fold the write-ahead log into the file and let go of it."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def rewarded_groups(path: Path) -> list[list[Any]]:
    """Yield the rows of the candidates with a reward, group by group in the order of the steps."""
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
    order = (rollouts.c.step, rollouts.c.group_index, rollouts.c.sample_index)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(rollouts).where(rollouts.c.reward.is_not(None)).order_by(*order)).all()
    engine.dispose()
    groups: dict[tuple[int, int], list[Any]] = {}
    for row in rows:
        groups.setdefault((row.step, row.group_index), []).append(row)
    return list(groups.values())


def _add_missing_columns(engine: sa.Engine) -> None:
    """Add missing columns, because a run that an earlier version began may continue."""
    present = {column["name"] for column in sa.inspect(engine).get_columns(rollouts.name)}
    with engine.begin() as connection:
        for column in rollouts.columns:
            if column.name not in present:
                kind = column.type.compile(engine.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {rollouts.name} ADD COLUMN {column.name} {kind}")


def _counts(*more: sa.ColumnElement[Any]) -> sa.Select[*tuple[Any, ...]]:
    """Select question id, candidates that carry a reward, right ones; `more` are columns to group by."""
    num_correct = sa.func.sum(sa.case((rollouts.c.outcome == Outcome.MATCH.value, 1), else_=0))
    counts = sa.select(rollouts.c.question_id, sa.func.count(), num_correct, *more)
    return counts.where(rollouts.c.reward.is_not(None)).group_by(rollouts.c.question_id, *more)


def _used_bytes(connection: sa.Connection) -> int:
    page_bytes, num_pages, num_free = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_size", "page_count", "freelist_count")
    )
    used_bytes: int = page_bytes * (num_pages - num_free)
    return used_bytes


def _row(
    step: int,
    group_index: int,
    sample_index: int,
    rollout: RolloutGroup,
    completion: Completion,
    score: Score,
    advantage: float | None,
) -> dict[str, Any]:
    return {
        "step": step,
        "group_index": group_index,
        "question_id": _storable(rollout.question.question_id),
        "database_id": _storable(rollout.question.database_id),
        "question": _storable(rollout.question.text),
        "sample_index": sample_index,
        "completion": _storable(completion.text),
        "sql": None if score.sql is None else _storable(score.sql),
        "reward": score.reward,
        "outcome": score.outcome.value,
        "message": _storable(score.message),
        "seconds": score.seconds,
        "adapter_version": completion.oldest_adapter_version,
        "newest_adapter_version": completion.newest_adapter_version,
        "num_tokens": len(completion.token_ids),
        "truncated": completion.truncated,
        "advantage": advantage,
        "design_s": score.design_s,
        "source": _storable(rollout.question.source) or None,
    }


def _storable(text: str) -> str:
    """Return text that can be stored: a lone surrogate has no UTF-8 form and is kept as its escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
