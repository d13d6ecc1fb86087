"""Reports what `floe prepare` kept and dropped, as a table and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from floe.actors.questions.selection import REASONS
from floe.cluster.messages import Question

MAX_SHOWN_WARNINGS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationReport:
    """Counts of questions by split."""

    folder: Path
    kept: Mapping[str, int]
    num_databases: Mapping[str, int]
    num_all_databases: int  # one that stands in several splits counts once
    dropped: Mapping[str, Mapping[str, int]]  # by reason
    warnings: Sequence[str]

    @classmethod
    def of(
        cls,
        folder: Path,
        splits: Mapping[str, Sequence[Question]],
        dropped: Sequence[Mapping[str, str]],
        warnings: Sequence[str],
    ) -> Self:
        counts = Counter((one["reason"], one["split"]) for one in dropped)
        return cls(
            folder=folder,
            kept={name: len(questions) for name, questions in splits.items()},
            num_databases={name: len({one.database_id for one in questions}) for name, questions in splits.items()},
            num_all_databases=len({one.database_id for questions in splits.values() for one in questions}),
            dropped={reason: {name: counts[reason, name] for name in splits} for reason in REASONS},
            warnings=warnings,
        )

    def counts(self) -> dict[str, Any]:
        asked = {name: kept + sum(by[name] for by in self.dropped.values()) for name, kept in self.kept.items()}
        return {"asked": asked, "dropped": self.dropped, "kept": self.kept, "databases": self.num_databases}

    def to_json(self) -> str:
        return json.dumps({"folder": str(self.folder), **self.counts(), "warnings": list(self.warnings)})

    def render(self, console: Console) -> None:
        counts = self.counts()
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("questions")
        for name in (*self.kept, "all"):
            table.add_column(name, justify="right")
        _add_row(table, "in the files", counts["asked"])
        for reason in REASONS:
            _add_row(table, f"  {reason}", self.dropped[reason])
        table.add_section()
        _add_row(table, "kept", self.kept, style="bold")
        _add_row(table, "databases of these", self.num_databases, total=self.num_all_databases)
        console.print(table)
        for line in self.warnings[:MAX_SHOWN_WARNINGS]:
            console.print(Text(f"  {line}"), soft_wrap=True)
        if len(self.warnings) > MAX_SHOWN_WARNINGS:
            console.print(Text(f"  {len(self.warnings) - MAX_SHOWN_WARNINGS} more such lines in its manifest.json"))
        console.print(Text(f"prepared folder: {self.folder} (each dropped question in dropped.jsonl)"), soft_wrap=True)


def _add_row(table: Table, name: str, by_split: Mapping[str, int], style: str = "", total: int | None = None) -> None:
    cells = [*by_split.values(), sum(by_split.values()) if total is None else total]
    table.add_row(name, *(str(cell) if cell else "-" for cell in cells), style=style)
