"""Findings of a part: lines with a figure and a limit, and the card's own numbers; standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Verdict(StrEnum):
    PASSED = "PASSED"
    FAILED = "FAILED"
    NOT_HERE = "not here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Settings that a part gets."""

    device: str  # "cuda" or "cpu"
    is_quick: bool
    home_dir: Path
    scratch_dir: Path  # for this part alone, removed when it ends
    tokenizer_dir: Path  # of Qwen2.5-Coder, with its configurations


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One finding; `limit` is empty where the figure is only printed and not judged."""

    name: str
    verdict: Verdict
    figure: str = ""
    limit: str = ""
    why: str = ""  # of what failed or is not here
    missing: tuple[str, ...] = ()  # missing packages, without which it can't be found here

    def shown(self) -> str:
        against = f" ({self.limit})" if self.limit else ""
        found = f": {self.figure}{against}" if self.figure else ""
        return f"{self.name}{found}  {self.verdict}{f' ({self.why})' if self.why else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Numbers of the card under the names of `CardFigures`, as a part measures them."""

    values: Mapping[str, float | str]


@dataclass(slots=True)
class PartResult:
    lines: list[Line] = field(default_factory=list)
    figures: dict[str, float | str] = field(default_factory=dict)
    seconds: float = 0.0
    is_quick: bool = False

    @property
    def verdict(self) -> Verdict:
        """Return the verdict: one failure fails the part; a passed part may have lines that can't be run here."""
        found = {line.verdict for line in self.lines}
        if Verdict.FAILED in found or not found:
            return Verdict.FAILED
        return Verdict.PASSED if Verdict.PASSED in found else Verdict.NOT_HERE

    @property
    def missing(self) -> set[str]:
        return {name for line in self.lines for name in line.missing}

    def record(self) -> dict[str, Any]:
        return {**asdict(self), "lines": [asdict(line) for line in self.lines]}

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> PartResult:
        lines = [
            Line(**{**one, "verdict": Verdict(one["verdict"]), "missing": tuple(one["missing"])})
            for one in record["lines"]
        ]
        return cls(**{**record, "lines": lines})


def at_most(name: str, value: float, limit: float, unit: str = "") -> Line:
    """Return a line that a NaN fails."""
    is_within = value <= limit
    return Line(
        name=name,
        verdict=Verdict.PASSED if is_within else Verdict.FAILED,
        figure=f"{_number(value)}{unit}",
        limit=f"at most {_number(limit)}{unit}",
    )


def at_least(name: str, value: float, limit: float, unit: str = "") -> Line:
    """Return a line that a NaN fails."""
    is_within = value >= limit
    return Line(
        name=name,
        verdict=Verdict.PASSED if is_within else Verdict.FAILED,
        figure=f"{_number(value)}{unit}",
        limit=f"at least {_number(limit)}{unit}",
    )


def holds(name: str, is_so: bool, figure: str, limit: str) -> Line:
    return Line(name=name, verdict=Verdict.PASSED if is_so else Verdict.FAILED, figure=figure, limit=limit)


def told(name: str, figure: str) -> Line:
    return Line(name=name, verdict=Verdict.PASSED, figure=figure)


def not_here(name: str, why: str) -> Line:
    return Line(name=name, verdict=Verdict.NOT_HERE, why=why)


def without_packages(name: str, missing: tuple[str, ...]) -> Line:
    """Return a line that names the packages that it needs."""
    *others, last = missing
    listed = f"packages {', '.join(others)} and {last} are" if others else f"package {last} is"
    return Line(name=name, verdict=Verdict.NOT_HERE, why=f"the {listed} not installed", missing=missing)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.3g}"
