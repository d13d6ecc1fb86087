"""The styles that floe ships, and two renderings of a schema (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from floe.actors.databases.schemas import Column, TableSchema, shown_name, shown_type

MAX_KEPT_TABLES = 2_000  # texts of tables: most come again with each question of their database
MAX_SHOWN_VALUES = 6  # values of a column, as in the method (Arctic-Text2SQL-R1, arXiv 2505.20315, `bird_eval`)

ANSWER_END = "</answer>"

_ARCTIC_TASK = """Database engine:
SQLite

Database schema:
{schema}

The schema lists the tables, their columns with comments and example values, and the primary and foreign keys.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltInStyle:
    """A style that floe ships; it keeps to `PromptStyle`."""

    system: str
    user: str = "{schema}\n{question}"
    shows_values: bool = False  # the schema is shown as CREATE TABLE with comments and values, not by names alone
    shows_reads: bool = False  # what a query reads is in the answer
    prefill: str = ""
    form: str  # of the answer after the prefill, of {sql} and the thought {reads}
    stop_texts: tuple[str, ...] = ()

    def schema(self, tables: Sequence[TableSchema]) -> str:
        return created_tables(tables) if self.shows_values else named_tables(tables)

    def messages(self, question: str, evidence: str, schema: str) -> list[dict[str, str]]:
        """Return the chat; external knowledge comes before the question, as in the method."""
        asked = f"{evidence}\n{question}" if evidence else question
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": self.user.format(schema=schema, question=asked)},
        ]

    def answer(self, sql: str, reads: str = "") -> str:
        return self.form.format(sql=sql, reads=reads)


STYLES: dict[str, BuiltInStyle] = {
    "compact": BuiltInStyle(system="You write one SQLite query that answers the question.", form="{sql}"),
    "tagged": BuiltInStyle(
        system="You write one SQLite query that answers the question: in one line what you read, within <think>, then "
        "the query within <answer>.",
        prefill="<think>",
        shows_reads=True,
        form="{reads}</think><answer>```sql\n{sql}\n```</answer>",
        stop_texts=(ANSWER_END,),
    ),
    "arctic": BuiltInStyle(
        system="You are a data science expert. You are given a database schema and a question in natural language. "
        "Understand the schema and write a valid SQL query that answers the question.",
        user=_ARCTIC_TASK,
        shows_values=True,
        prefill="<think>\n",
        form="I read the schema and write the query.\n</think>\n<answer>\n```sql\n{sql}\n```\n</answer>",
        stop_texts=(ANSWER_END,),
    ),
}


def named_tables(tables: Sequence[TableSchema]) -> str:
    """Return the names alone: a line `table(column, column)` for each table."""
    return "\n".join(f"{shown_name(table.name)}({_names(c.name for c in table.columns)})" for table in tables)


def created_tables(tables: Sequence[TableSchema]) -> str:
    """Return CREATE TABLE statements, with comments and values where the tables have them."""
    return "\n\n".join(_create_table(table) for table in tables)


@lru_cache(maxsize=MAX_KEPT_TABLES)
def _create_table(table: TableSchema) -> str:
    parts = [
        (f"{shown_name(column.name)} {shown_type(column.type)}".rstrip(), _said(column)) for column in table.columns
    ]
    if table.primary_key:
        parts.append((f"PRIMARY KEY ({_names(table.primary_key)})", ""))
    for key in table.foreign_keys:
        referred = f"{shown_name(key.table)} ({_names(key.referred_columns)})"
        parts.append((f"FOREIGN KEY ({_names(key.columns)}) REFERENCES {referred}", ""))
    commas = [","] * (len(parts) - 1) + [""]
    head = f"CREATE {'VIEW' if table.is_view else 'TABLE'} {shown_name(table.name)} ("
    if table.is_terse:
        return f"{head}{_on_few_lines(parts)});"
    lines = [f"    {part}{comma}{said}\n" for (part, said), comma in zip(parts, commas, strict=True)]
    return f"{head}\n{''.join(lines)});"


def _on_few_lines(parts: Sequence[tuple[str, str]]) -> str:
    """Join the parts; a comment ends its line."""
    text = ""
    for number, (part, said) in enumerate(parts):
        comma = "," if number + 1 < len(parts) else ""
        text += f"{part}{comma}{said}\n" if said else f"{part}{comma} " if comma else part
    return text


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(shown_name, names))


def _said(column: Column) -> str:
    """Return the comment behind a column: what it means, and values of it."""
    comment = "; ".join(part for part in (_description(column), column.value_description) if part)
    said = ", ".join(part for part in (comment, _values(column)) if part)
    return f" -- {said}" if said else ""


def _description(column: Column) -> str:
    """Return the description; empty where it only repeats the column's name, also with spaces as `_` or left out."""
    text = column.description
    repeats = {text.lower(), text.lower().replace(" ", "_"), text.lower().replace(" ", "")}
    return "" if column.name.lower() in repeats else text


def _values(column: Column) -> str:
    """Return values that the question names, then examples."""
    most = max(MAX_SHOWN_VALUES, len(column.examples))
    shown = list(dict.fromkeys((*column.matches, *column.examples)))[:most]
    return f"example: [{', '.join(shown)}]" if shown else ""
