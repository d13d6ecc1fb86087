"""The answer that `floe ask` shows: the SQL and the first rows of its result, as text or as JSON (pure)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from floe.cluster.messages import QueryResult

NULL = "NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One answered question; `sql` is None where the completion holds none; `result` then says so too."""

    question: str
    database: str
    adapter: str | None
    sql: str | None
    completion: str
    is_truncated: bool  # cut off at the longest completion
    result: QueryResult

    def to_json(self) -> str:
        """Return indented JSON text; `outcome` is `match` for SQL that ran."""
        fields = asdict(self)
        return json.dumps(fields | fields.pop("result"), indent=2) + "\n"

    def render(self, console: Console) -> None:
        """Print the SQL, and the rows of one that ran."""
        console.print(Text(printable(self.sql or self.completion)), soft_wrap=True)
        if self.sql is not None and self.result.outcome.value == "match":
            console.print(_table(self.result))
            console.print(_count(self.result))

    def fault(self) -> str | None:
        """Return why there are no rows, in one sentence; None where there are."""
        if self.result.outcome.value == "match":
            return None
        cut = " The completion was cut off at its longest." if self.is_truncated else ""
        return f"{self.result.outcome.value}: {printable(self.result.message)}.{cut}"


def printable(text: str) -> str:
    """Return the text without control characters that a terminal would obey; lines stay."""
    return "".join(one if one.isprintable() or one == "\n" else "\N{REPLACEMENT CHARACTER}" for one in text)


def _table(result: QueryResult) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in result.columns:
        table.add_column(Text(printable(name)), overflow="fold")
    for row in result.rows:
        cells = (Text(NULL, style="dim") if cell is None else Text(printable(cell)) for cell in row)
        table.add_row(*cells)
    return table


def _count(result: QueryResult) -> str:
    rows = "1 row" if result.num_rows == 1 else f"{result.num_rows:,} rows"
    shown = "" if len(result.rows) == result.num_rows else f", the first {len(result.rows)} are shown"
    hidden = result.num_columns - len(result.columns)
    columns = f"; {hidden} of {result.num_columns} columns are not shown" if hidden else ""
    return f"{rows}{shown}{columns}"
