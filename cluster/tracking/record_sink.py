"""The interface of a place that takes a step's record, in addition to `metrics.jsonl`, which defines it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Protocol

from floe.configs.errors import is_stop

Values = Mapping[str, float | None]  # the record's finite numbers by name; None for a mean of nothing


class RunEnd(Enum):
    FINISHED = auto()
    INTERRUPTED = auto()  # by the user
    FAILED = auto()

    @classmethod
    def of(cls, fault: BaseException | None) -> RunEnd:
        """Return the ending of a block that was left with this error, or without one."""
        if fault is None:
            return cls.FINISHED
        return cls.INTERRUPTED if is_stop(fault) else cls.FAILED


class RecordSink(Protocol):
    def write(self, step: int, values: Values) -> None: ...

    def close(self, end: RunEnd) -> None:
        """Close the sink; a second call does nothing."""
