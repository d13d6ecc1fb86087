"""The gold queries of a dataset, each run once before a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from floe.cluster.databases.places import find_database, nearest_databases
from floe.cluster.messages import Candidate, Outcome, Score, ScoreRequest
from floe.cluster.other_trainers.examples import DATABASE, GOLD, database_of, golds_of
from floe.cluster.other_trainers.faults import GoldFault
from floe.configs.errors import UserError

# The shortest query: says whether a gold runs.
ANY_QUERY = "SELECT 1"
MAX_NAMED = 5  # missing databases in a message

Query = tuple[str, str]  # database id, gold
Run = Callable[[Sequence[ScoreRequest]], list[tuple[Score, ...]]]


def gold_faults(rows: Sequence[Mapping[str, Any]], databases: Path, run: Run) -> list[GoldFault]:
    """Run each gold query once and return those that fail. Raises UserError for a missing entry or database."""
    golds_by_row = [(database_of(row[DATABASE], n), golds_of(row[GOLD], n)) for n, row in enumerate(rows)]
    _refuse_missing([db_id for db_id, _ in golds_by_row], databases)
    found = _scores(list(dict.fromkeys((db_id, sql) for db_id, golds in golds_by_row for sql in golds)), run)
    return [
        GoldFault(
            kind="database" if found[db_id, sql].outcome is Outcome.INFRASTRUCTURE else "gold",
            row=row,
            db_id=db_id,
            gold_sql=sql,
            message=found[db_id, sql].message,
            has_other_gold=any(found[db_id, other].outcome.carries_reward for other in golds),
        )
        for row, (db_id, golds) in enumerate(golds_by_row)
        for sql in golds
        if not found[db_id, sql].outcome.carries_reward
    ]


def _scores(queries: Sequence[Query], run: Run) -> dict[Query, Score]:
    found = dict(zip(queries, run([_request(*one) for one in queries]), strict=True))
    # A fault of the machine may be gone when it is tried once more.
    again = [one for one in queries if found[one][0].outcome is Outcome.INFRASTRUCTURE]
    found.update(zip(again, run([_request(*one) for one in again]), strict=True))
    return {query: scores[0] for query, scores in found.items()}


def _request(db_id: str, sql: str) -> ScoreRequest:
    return ScoreRequest(
        question_id=sql,
        database_id=db_id,
        gold_sql=(sql,),
        candidates=(Candidate(sql=ANY_QUERY),),
        correctness_only=True,
    )


def _refuse_missing(ids_by_row: Sequence[str], databases: Path) -> None:
    missing = [one for one in dict.fromkeys(ids_by_row) if find_database(databases, one) is None]
    if not missing:
        return
    named = [f"{one!r} of row {ids_by_row.index(one)}{_meant(databases, one)}" for one in missing[:MAX_NAMED]]
    more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
    raise UserError(
        f"The folder {databases} has no database {', no '.join(named)}{more}: correct {DATABASE}, or put the file at "
        "<db_id>/<db_id>.sqlite."
    )


def _meant(databases: Path, db_id: str) -> str:
    near = nearest_databases(databases, db_id)
    return f" (nearest: {', '.join(map(repr, near))})" if near else ""
