"""Settings that a reader's child gets when it starts, as one JSON text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

WALL_LIMIT_S = 120.0  # only a safety net: far above what the CPU-time limit takes on a busy machine


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSettings:
    """Settings of a reader; `form` is what a query is read as: `parts` of its text, or the `graph` of its operators."""

    program: ClassVar[str] = "floe.reward_service.reading.child"
    title: ClassVar[str] = "the reader of queries"

    form: str
    databases_dir: str
    time_limit_s: float  # CPU seconds of one text, and of a database's schema
    max_memory_bytes: int
