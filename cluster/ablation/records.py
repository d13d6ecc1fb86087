"""Records of finished arms: a small file each, which outlives the run's folder and can be kept with a project."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from floe.cluster.ablation.measures import ArmMeasures
from floe.cluster.checkpoints.resume_rules import RULE_OF
from floe.configs.errors import UserError, first_line
from floe.configs.files.whole_files import write_whole
from floe.configs.schema import RunConfig
from floe.configs.sections.resume_rule import Rule

SUFFIX = ".json.gz"
# What a machine or a start decides, and what only names a run.
DECIDED = ("model.dtype", "rollout.dtype", "reward.clock", "run.name", "run.seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRecord:
    """One finished arm of one seed: what it was, where it was trained, and its results by question and by step."""

    settings: dict[str, Any]  # `section.field` to value, of all that would make it another run; of a path its last part
    processor: str
    precision: str  # the learner's and the engine's
    measures: ArmMeasures

    @property
    def name(self) -> str:
        return record_name(self.measures.arm, self.measures.seed)


RECORDS = TypeAdapter(ArmRecord)


def record_name(arm: str, seed: int) -> str:
    """Return the name of an arm's record, which is that of its run folder too."""
    return f"{arm}-seed{seed}"


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Return the settings that make a run what it is, without a machine's paths and without what a machine decides."""
    return {
        f"{section}.{field}": _portable(value)
        for section, fields in config.model_dump(mode="json").items()
        for field, value in fields.items()
        if RULE_OF.get(f"{section}.{field}") is Rule.ANOTHER_RUN and f"{section}.{field}" not in DECIDED
    }


def changed_settings(record: ArmRecord, config: RunConfig) -> list[str]:
    """Return a line for each setting in which a planned arm differs; what the record lacks has its default there."""
    before, after = settings_of(RunConfig()) | record.settings, settings_of(config)
    return [
        f"{key} ({before.get(key)} in the record, {after.get(key)} now)"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


def write_record(folder: Path, record: ArmRecord) -> Path:
    """Write a record; the same record gives the same bytes. Raises UserError."""
    path = folder / f"{record.name}{SUFFIX}"
    text = json.dumps(asdict(record), sort_keys=True, allow_nan=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, gzip.compress(text.encode(), mtime=0))
    except OSError as fault:
        raise UserError(f"Can't write {path} ({fault.strerror}): give --records another folder.") from fault
    return path


def known_record(folder: Path, arm: str, seed: int) -> ArmRecord | None:
    """Return the record of an arm and seed; None where the folder has none. Raises UserError for one that is broken."""
    path = folder / f"{record_name(arm, seed)}{SUFFIX}"
    return read_record(path) if path.is_file() else None


def read_record(path: Path) -> ArmRecord:
    """Read a record. Raises UserError for a file that holds none."""
    try:
        return RECORDS.validate_json(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error, ValidationError) as fault:
        raise UserError(
            f"{path} holds no record of an arm ({first_line(fault)}): remove it, or put it back."
        ) from fault


def read_records(folder: Path) -> list[ArmRecord]:
    """Read all records of a folder, seed by seed. Raises UserError where there is none."""
    found = [read_record(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    if not found:
        raise UserError(f"{folder} holds no records of arms (*{SUFFIX}): give --records the folder of an ablation.")
    return sorted(found, key=lambda one: (one.measures.seed, one.measures.arm))


def check_blocks(records: Iterable[ArmRecord]) -> None:
    """Check that the arms of each seed come from one kind of machine, since they are compared with each other.

    Raises UserError.
    """
    first: dict[int, ArmRecord] = {}
    for record in records:
        known = first.setdefault(record.measures.seed, record)
        if (known.processor, known.precision) != (record.processor, record.precision):
            raise UserError(
                f"{record.name} was trained on {record.processor} in {record.precision}, {known.name} on "
                f"{known.processor} in {known.precision}, but the arms of a seed are compared: train a seed's arms on "
                "one machine, and remove the other records of that seed."
            )


def check_machine(record: ArmRecord, processor: str) -> None:
    """Check that a further arm of the record's seed may be trained here. Raises UserError."""
    if record.processor != processor:
        raise UserError(
            f"The record of {record.name} was made on {record.processor}, and this is {processor}, but the arms of a "
            f"seed are compared: train the arms that seed {record.measures.seed} lacks on such a machine, or remove "
            "that seed's records."
        )


def in_order(records: Sequence[ArmRecord], arms: Sequence[str]) -> list[ArmRecord]:
    """Return the records in the order of the arms, those of other arms last."""
    place = {arm: number for number, arm in enumerate(arms)}
    return sorted(records, key=lambda one: (one.measures.seed, place.get(one.measures.arm, len(arms))))


def _portable(value: Any) -> Any:
    """Return a value without a machine's folders."""
    if isinstance(value, str) and value.startswith("/"):
        return Path(value).name
    if isinstance(value, list):
        return [_portable(one) for one in value]
    if isinstance(value, dict):
        return {key: _portable(one) for key, one in value.items()}
    return value
