"""Policies that look at no question, or only at its words, to see what a reward pays them (pure).

Each gives SQL; `in_reply` wraps it in the form that every design pays for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from floe.cluster.messages import Question
from floe.reward_service.reading.schema_reader import Schema

MAX_TABLES, MAX_COLUMNS = 6, 60


def in_reply(sql: str) -> str:
    return f"<think>It is known.</think>\n<answer>\n```sql\n{sql}\n```\n</answer>"


def replies(question: Question, schema: Schema, commonest_gold: str) -> Mapping[str, str]:
    """Return each policy's reply to a question, the gold's first."""
    return {
        "gold": in_reply(question.gold_sql[0]),
        "SELECT 1": in_reply("SELECT 1"),
        "nothing": "",
        "count of a table": in_reply(f"SELECT count(*) FROM {quoted(named_table(question.text, schema))}"),
        "kitchen sink": in_reply(kitchen_sink(question.text, schema)),
        "commonest gold": in_reply(commonest_gold),
    }


def named_table(text: str, schema: Schema) -> str:
    """Return the first table whose name the question has, or the first table."""
    words = text.lower()
    return next((table for table in schema if table.lower().rstrip("s") in words), next(iter(schema)))


def kitchen_sink(text: str, schema: Schema) -> str:
    """Return a query of many tables and columns with each kind of clause."""
    first = named_table(text, schema)
    tables = [first, *(table for table in schema if table != first)][:MAX_TABLES]
    columns = [f"{quoted(table)}.{quoted(column)}" for table in tables for column in schema[table]][:MAX_COLUMNS]
    joined = " JOIN ".join(quoted(table) for table in tables)
    shown = ", ".join(columns)
    return f"SELECT DISTINCT {shown} FROM {joined} GROUP BY {columns[0]} ORDER BY {columns[0]} LIMIT 1"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def commonest(golds: Sequence[str], num_equal: Sequence[int]) -> str:
    """Return the gold whose result most other golds have too; `num_equal` counts them for each."""
    return max(zip(golds, num_equal, strict=True), key=lambda one: one[1])[0]
