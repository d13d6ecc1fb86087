"""SParC and CoSQL: interactions of several turns over one database, each turn with its own query."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from floe.actors.layouts.interface import ByName, Layout
from floe.actors.questions.questions import first_record
from floe.actors.records.record_files import Record, read_records

DATABASES = ("database", "databases")


def records(path: Path) -> list[Record]:
    """Return one record for each turn; its question is all that was said up to it, one line each.

    The last line is what the query answers, and mostly means nothing without the lines before it.
    """
    turns = [turn for record in read_records(path) for turn in _turns(record)]
    return [Record(where=where, index=index, value=value) for index, (where, value) in enumerate(turns)]


def _turns(record: Record) -> Iterator[tuple[str, object]]:
    value = record.value
    if not isinstance(value, dict) or not isinstance(value.get("interaction"), list):
        yield record.where, value
        return
    said: list[str] = []
    for number, turn in enumerate(value["interaction"]):
        where = f"{record.where}, turn {number}"
        if not isinstance(turn, dict):
            yield where, turn
            continue
        said.append(str(turn.get("utterance", "")))
        yield (
            where,
            {
                "question_id": f"{record.index}-{number}",
                "db_id": value.get("database_id"),
                "question": "\n".join(said),
                "query": turn.get("query"),
            },
        )


def _is_ours(path: Path) -> bool:
    return "interaction" in first_record(path)


LAYOUT = Layout(
    name="sparc",
    summary="SParC, CoSQL: train.json and dev.json of interactions (or cosql_train.json ...), database/",
    find=ByName(
        splits=(("train", ("train.json", "cosql_train.json")), ("test", ("dev.json", "cosql_dev.json"))),
        databases=DATABASES,
        is_ours=_is_ours,
    ),
    records=records,
)
