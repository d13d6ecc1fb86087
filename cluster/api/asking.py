"""`floe.ask`: a policy's SQL for a question in words, and the rows that it returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from floe.cluster.api.policies import Adapter, chosen_policy
from floe.cluster.api.settings import Overrides, Preset, override_texts
from floe.cluster.api.turn import heavy_imports, own_turn

if TYPE_CHECKING:
    from floe.cluster.evaluation.answer_table import Asked


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """The answer to one question. A cell is text, or None for NULL."""

    asked: Asked

    @property
    def sql(self) -> str | None:
        """The policy's SQL; None where its answer holds none."""
        return self.asked.sql

    @property
    def columns(self) -> tuple[str, ...]:
        return self.asked.result.columns

    @property
    def rows(self) -> tuple[tuple[str | None, ...], ...]:
        """The first rows, at most `max_rows`."""
        return self.asked.result.rows

    @property
    def num_rows(self) -> int:
        """Number of all rows."""
        return self.asked.result.num_rows

    @property
    def fault(self) -> str | None:
        """Reason why there are no rows, in one sentence; None where the SQL ran to its end."""
        return self.asked.fault()

    @property
    def html(self) -> str:
        return self._repr_html_()

    def __repr__(self) -> str:
        from floe.cluster.terminal.notebook_view import text_of

        return "\n".join(filter(None, (text_of(self.asked.render), self.fault)))

    def _repr_html_(self) -> str:
        from html import escape

        from floe.cluster.terminal.notebook_view import html_of

        return html_of(self.asked.render) + ("" if self.fault is None else f"<p>{escape(self.fault)}</p>")


def ask(
    question: str,
    database: str | Path,
    *,
    adapter: Adapter = None,
    preset: Preset = None,
    overrides: Overrides | None = None,
    evidence: str = "",
    max_rows: int = 20,
    progress: bool = True,
) -> Answer:
    """Have a policy answer a question about the SQLite file `database`, and run its SQL, read-only and within limits.

    `adapter` and `preset` are as in `evaluate`. `evidence` is knowledge that the database does not hold. SQL that fails
    is no exception: `fault` says why. Raises UserError for what the user can fix, and leaves no process.
    """
    with own_turn():
        config, folder = chosen_policy(adapter, preset, override_texts(overrides))
        with heavy_imports():
            from floe.cluster.api.shown import shown_progress
            from floe.cluster.operations.ask import AskOptions, answered
        options = AskOptions(
            question=question,
            database=Path(database).expanduser(),
            adapter=folder,
            evidence=evidence,
            max_rows=max_rows,
        )
        with shown_progress(progress) as shown:
            return Answer(answered(config, options, shown))
