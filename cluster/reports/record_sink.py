"""Where the record of a step goes beside `metrics.jsonl`, which defines it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

Values = Mapping[str, float | None]  # the record's finite numbers by name; None for a mean of nothing


class RecordSink(Protocol):
    def write(self, step: int, values: Values) -> None: ...

    def close(self, *, failed: bool) -> None:
        """`failed` when an error ends the run. A second call does nothing."""
