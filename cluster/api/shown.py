"""Progress of a call, and results that show themselves as text and, in a notebook, as HTML."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console

from floe.cluster.evaluation.before_after_table import EvaluationReport
from floe.cluster.terminal.notebook_view import html_of, notebook_progress, plain_console, text_of
from floe.cluster.terminal.progress import Progress, make_console


@contextmanager
def shown_progress(is_shown: bool, num_steps: int = 0) -> Iterator[Progress]:
    """Yield a progress: lines on stderr, one output in a notebook, or nothing at all."""
    if not is_shown:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            yield Progress(plain_console(nowhere), num_steps)
    elif Console().is_jupyter:
        with notebook_progress(num_steps) as progress:
            yield progress
    else:
        yield Progress(make_console(stderr=True), num_steps)


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """The table before and after training. `figures` has its numbers, shares between 0 and 1 with 95 % intervals."""

    figures: EvaluationReport = field()

    def __repr__(self) -> str:
        return text_of(self.figures.render)

    def _repr_html_(self) -> str:
        return html_of(self.figures.render)
