"""The first rows of a result as short texts for a person (pure)."""

from __future__ import annotations

from typing import Any

from floe.reward_service.comparison.comparison import Answer

MAX_COLUMNS = 8
MAX_CELL_CHARS = 60


def shown_result(answer: Answer, max_rows: int) -> dict[str, Any]:
    """Return the fields of a `QueryResult` other than outcome and message."""
    columns = [column[0] for column in answer.description[:MAX_COLUMNS]]
    return {
        "num_rows": len(answer.rows),
        "num_columns": answer.num_columns,
        "columns": [_cut(name) for name in columns],
        "rows": [[cell_text(cell) for cell in row[:MAX_COLUMNS]] for row in answer.rows[:max_rows]],
    }


def cell_text(cell: Any) -> str | None:
    """Return the cell as text, None for NULL. Text that reads as a number is quoted: the two compare unequal."""
    if cell is None:
        return None
    if isinstance(cell, bytes):
        return _cut(f"x'{cell[:MAX_CELL_CHARS].hex()}'")
    if isinstance(cell, str):
        return _cut(f"'{cell}'" if _reads_as_number(cell) else cell)
    return str(cell)


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CELL_CHARS else text[: MAX_CELL_CHARS - 1] + "…"
