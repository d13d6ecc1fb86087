"""What the model is asked, and the form of an answer (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from actors.data.schemas import Column, TableSchema

Style = Literal["compact", "arctic"]

_COMPACT_SYSTEM = "You write one SQLite query that answers the question."

_ARCTIC_SYSTEM = (
    "You are a data science expert. You are given a database schema and a question in natural language. "
    "Understand the schema and write a valid SQL query that answers the question."
)

_ARCTIC_TASK = """Database engine:
SQLite

Database schema:
{schema}

The schema lists the tables, their columns with example values, and the primary and foreign keys.

Question:
{question}

Instructions:
- Return only the information that the question asks for.
- Return all of the information that the question asks for.
- Think through the steps of writing the query before you write it.

Output format:
<think>
your reasoning
</think>
<answer>
a short summary and the query:
```sql
the query
```
</answer>"""


def messages(question: str, evidence: str, tables: Sequence[TableSchema], style: Style) -> list[dict[str, str]]:
    """The chat of one question. External knowledge stands before the question, as the method has it."""
    asked = f"{evidence}\n{question}" if evidence else question
    if style == "compact":
        return [
            {"role": "system", "content": _COMPACT_SYSTEM},
            {"role": "user", "content": f"{_compact_schema(tables)}\n{asked}"},
        ]
    return [
        {"role": "system", "content": _ARCTIC_SYSTEM},
        {"role": "user", "content": _ARCTIC_TASK.format(schema=_create_tables(tables), question=asked)},
    ]


def prefill(style: Style) -> str:
    """What stands at the start of the answer already; glued back before extraction."""
    return "" if style == "compact" else "<think>\n"


def answer_text(sql: str, style: Style) -> str:
    """The answer that the warm start teaches, after the prefill."""
    if style == "compact":
        return sql
    return f"I read the schema and write the query.\n</think>\n<answer>\n```sql\n{sql}\n```\n</answer>"


def stop_texts(style: Style) -> tuple[str, ...]:
    """Texts that end a completion, beside the end token."""
    return () if style == "compact" else ("</answer>",)


def _compact_schema(tables: Sequence[TableSchema]) -> str:
    return "\n".join(f"{table.name}({', '.join(column.name for column in table.columns)})" for table in tables)


def _create_tables(tables: Sequence[TableSchema]) -> str:
    return "\n\n".join(_create_table(table) for table in tables)


def _create_table(table: TableSchema) -> str:
    lines = [f"    {_quoted(column.name)} {column.type},{_comment(column)}" for column in table.columns]
    if table.primary_key:
        lines.append(f"    PRIMARY KEY ({', '.join(map(_quoted, table.primary_key))}),")
    for key in table.foreign_keys:
        columns, referred = (", ".join(map(_quoted, names)) for names in (key.columns, key.referred_columns))
        lines.append(f"    FOREIGN KEY ({columns}) REFERENCES {_quoted(key.table)} ({referred}),")
    return f"CREATE TABLE {_quoted(table.name)} (\n" + "\n".join(lines) + "\n);"


def _comment(column: Column) -> str:
    return f" -- example: [{', '.join(column.examples)}]" if column.examples else ""


def _quoted(name: str) -> str:
    return name if name.isidentifier() else f"`{name}`"
