"""A finding of the guard: which detector, in one sentence why, and what follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from floe.configs.sections.health_section import HealthAction


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFinding:
    """`action` is what the guard did: a roll-back that has none left is a stop."""

    step: int  # the one after which it was found
    detector: str
    text: str  # cause, figures, window, the limit's name, and what to do
    action: HealthAction

    def values(self) -> dict[str, Any]:
        """Return the entry of `health_findings` in the step's record."""
        return {name: value for name, value in asdict(self).items() if name != "step"}


def findings_of(record: Mapping[str, Any]) -> list[HealthFinding]:
    """Return the findings of a record of `metrics.jsonl`; what can't be read is left out."""
    step, entries = record.get("step"), record.get("health_findings")
    if not isinstance(step, int) or not isinstance(entries, Iterable):
        return []
    return [found for one in entries if isinstance(one, Mapping) and (found := _finding(step, one)) is not None]


def _finding(step: int, entry: Mapping[str, Any]) -> HealthFinding | None:
    detector, text, action = (entry.get(name) for name in ("detector", "text", "action"))
    if not (isinstance(detector, str) and isinstance(text, str) and isinstance(action, str)):
        return None
    try:
        return HealthFinding(step=step, detector=detector, text=text, action=HealthAction(action))
    except ValueError:
        return None
