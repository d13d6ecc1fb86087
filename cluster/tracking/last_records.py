"""The end of `metrics.jsonl`, read while a run may be writing it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from floe.cluster.health.finding import HealthFinding, findings_of
from floe.cluster.tracking.source_metrics import EVALUATION_NUMBERS, STEP_NUMBERS, values_by_source
from floe.configs.files.foreign_files import parsed_json

TAIL_BYTES = 65_536  # bytes of the file that hold its last records


def last_records(metrics: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the whole records at the end of the file, the last one first; what can't be read is left out."""
    if not metrics.is_file():  # a pipe does not count either
        return
    with metrics.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]
    for line in reversed(lines):
        try:
            record = parsed_json(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def last_by_source(metrics: Path) -> dict[str, dict[str, float]]:
    """Return the last step's numbers of each source of a mixture, and those of its last evaluation while training.

    Empty without a mixture. What a record has no number for is left out, as is an evaluation that lies too far back.
    """
    found: dict[str, dict[str, float]] = {}
    for record in last_records(metrics):
        if not found:
            _add(found, record, STEP_NUMBERS)
        if not found:
            break
        _add(found, record, EVALUATION_NUMBERS)
        if any(EVALUATION_NUMBERS[0] in numbers for numbers in found.values()):
            break
    return dict(sorted(found.items()))


def last_findings(metrics: Path) -> list[HealthFinding]:
    """Return the health guard's findings in the last records, the newest first."""
    return [one for record in last_records(metrics) for one in findings_of(record)]


def _add(found: dict[str, dict[str, float]], record: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        for source, value in values_by_source(record, name).items():
            if isinstance(value, int | float):
                found.setdefault(source, {})[name] = value
