"""Settings that the child reading users' databases gets when it starts, as one JSON text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingSettings:
    """Limits on what one table or column may cost before it is left out."""

    program: ClassVar[str] = "floe.actors.databases.database_child"
    title: ClassVar[str] = "the reader of databases"

    time_limit_s: float = 60.0  # CPU seconds; the texts of a million rows take one to three
    max_memory_bytes: int = 2**30  # SQLite's heap
    max_text_rows: int = 1_000_000  # rows of a table, from which one column's texts are taken
    max_texts: int = 20_000  # distinct texts of a column

    @property
    def hard_limit_s(self) -> float:
        """Seconds of CPU time after which the CPU timer ends the child, if the polite stop did not."""
        return self.time_limit_s + 1.0

    @property
    def wall_limit_s(self) -> float:
        """Seconds of the safety net: far above what the CPU-time limit takes on a busy machine."""
        return 10 * self.time_limit_s + 60
