"""Targets of a bench, the verdict on each, and the table that shows both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    name: str
    ratio: float | None  # None: not measured
    at_least: float | None  # None: printed only

    @property
    def verdict(self) -> str:
        if self.ratio is None:
            return "not measured"
        if self.at_least is None:
            return "-"
        return "reached" if self.ratio >= self.at_least else "missed"

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.verdict}


def targets_table(heading: str, targets: Sequence[Target]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(heading, "measured", "to reach", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for target in targets:
        measured = "-" if target.ratio is None else f"{target.ratio:.2f}"
        wanted = "-" if target.at_least is None else f"{target.at_least:.3g}"
        table.add_row(target.name, measured, wanted, target.verdict)
    return table
