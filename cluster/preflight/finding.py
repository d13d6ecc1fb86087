"""Result of a check: fine, a warning or a fault, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from floe.cluster.run_folder.failure_report import FAILURE_LOG, note_failure
from floe.configs.errors import UserError


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"  # the run works, but slower or closer to a limit than it could
    FAULT = "fault"  # the run would fail


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding; `name` is the check's, which `outcome` fills in; `remedy` is empty where nothing is to be done."""

    name: str = ""
    level: Level
    what: str
    remedy: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.what}: {self.remedy}" if self.remedy else self.what


Check = Callable[[], Finding]


def ok(what: str) -> Finding:
    return Finding(level=Level.OK, what=what)


def warning(what: str, remedy: str) -> Finding:
    return Finding(level=Level.WARNING, what=what, remedy=remedy)


def fault(what: str, remedy: str) -> Finding:
    return Finding(level=Level.FAULT, what=what, remedy=remedy)


def outcome(name: str, check: Check, logs_dir: Path) -> Finding:
    """Return the check's finding: a UserError is a fault in its own words, any other error one that names the check.

    The trace of the latter goes to `logs_dir`.
    """
    try:
        return replace(check(), name=name)
    except UserError as error:
        what, colon, remedy = str(error).rpartition(": ")
        return Finding(name=name, level=Level.FAULT, what=what, remedy=remedy) if colon else _unsplit(name, error)
    except Exception as error:
        note_failure(error, f"the check '{name}'", logs_dir)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = ": ".join([type(error).__name__, *lines[-1:]]).rstrip(".")
        return Finding(
            name=name,
            level=Level.FAULT,
            what=f"the check '{name}' itself failed ({said})",
            remedy=f"{logs_dir / FAILURE_LOG} has its trace; mostly a package is damaged, which 'make setup' fixes",
        )


def stop_at_fault(findings: Iterable[Finding], note: Callable[[str], None]) -> None:
    """Pass every warning to `note`; the first fault is a UserError, and the others are noted before it."""
    found = list(findings)
    faults = [one for one in found if one.level is Level.FAULT]
    for one in found:
        if one.level is Level.WARNING or one in faults[1:]:
            note(f"{one.level.value}: {one.sentence}")
    if faults:
        raise UserError(faults[0].sentence)


def _unsplit(name: str, error: UserError) -> Finding:
    return Finding(name=name, level=Level.FAULT, what=str(error))
