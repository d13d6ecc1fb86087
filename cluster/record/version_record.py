"""The record of one version, as `docs/record/VERSION.json` holds it, and what its figures say against their bars."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from packaging.version import InvalidVersion, Version

from floe.cluster.record.curve_check import CurveRange, range_of
from floe.cluster.record.part_result import PartResult
from floe.configs.errors import UserError
from floe.configs.files.whole_files import write_whole

CURVE = "curve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """What made a record."""

    version: str
    commit: str  # with "-changed" where files differed from it
    processor: str  # its name and instruction set
    num_cores: int
    libraries: Mapping[str, str]  # versions by name
    is_quick: bool = False  # sizes of a trial, which say nothing of the version


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    maker: Maker
    date: str  # of the part that ended last
    parts: Mapping[str, PartResult] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        return bool(self.parts) and all(part.is_complete for part in self.parts.values())

    @property
    def precision(self) -> str:
        """The parts' precisions, most often one."""
        return ", ".join(dict.fromkeys(part.precision for part in self.parts.values() if part.precision))

    def curve_range(self) -> CurveRange:
        """Return what the healthy curves of the record allow. Raises UserError where it has none."""
        part = self.parts.get(CURVE)
        if part is None or not part.is_complete:
            raise UserError(f"The record {self.maker.version} has no curves: run 'make record PARTS={CURVE}'.")
        return range_of(list(part.curves.values()))

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        made = {**asdict(self.maker), "date": self.date, "precision": self.precision, "is_complete": self.is_complete}
        parts = {name: part.record() for name, part in self.parts.items()}
        write_whole(path, json.dumps({**made, "parts": parts}, indent=1) + "\n")


def read_record(path: Path) -> VersionRecord:
    """Return the record of a file. Raises UserError for a file that is not one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        parts = {name: PartResult.of_record(part) for name, part in found["parts"].items()}
        maker = Maker(**{name: found[name] for name in Maker.__dataclass_fields__})
        return VersionRecord(maker=maker, date=found["date"], parts=parts)
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise UserError(f"{path} is not a record ({fault!r}): make it again with 'make record AGAIN=1'.") from None


def read_records(folder: Path) -> list[VersionRecord]:
    """Return the records of a folder by version, the oldest first. Raises UserError for a file that is not one."""
    paths = sorted(folder.glob("*.json"))
    return [read_record(path) for path in sorted(paths, key=lambda path: _order(path.stem))]


def _order(name: str) -> Version:
    try:
        return Version(name)
    except InvalidVersion:
        raise UserError(f"{name}.json is not named after a version: records are docs/record/VERSION.json.") from None


def misses(record: VersionRecord, known: Mapping[tuple[str, str], str]) -> list[str]:
    """Return a sentence for each figure that misses its bar unknown, and for each known miss that is none any more."""
    missed = {
        (part.part, one.name): f"{one.name} is {one.value:.3g}, and its bar is {one.bar}"
        for part in record.parts.values()
        for one in part.figures
        if one.misses
    }
    found = [
        f"Record {record.maker.version}, {key[0]}: {what}. Fix what slowed it or made it worse, or list it in "
        "cluster/record/known_misses.py with the reason."
        for key, what in missed.items()
        if key not in known
    ]
    return found + [
        f"Record {record.maker.version}, {part}: {name} does not miss its bar: remove it from "
        "cluster/record/known_misses.py."
        for part, name in known
        if (part, name) not in missed
    ]


def unfinished(record: VersionRecord) -> Sequence[str]:
    return [f"{part.part}: {part.why}" for part in record.parts.values() if not part.is_complete]
