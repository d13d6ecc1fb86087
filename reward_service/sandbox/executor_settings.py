"""Limits and semantics that an executor child gets when it starts, as one JSON text."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from floe.configs.errors import UserError
from floe.reward_service.sandbox.fixed_clock import INSTANT_FORMAT
from floe.reward_service.sandbox.guard import StatementSizes

if TYPE_CHECKING:  # an executor starts a third faster without it
    from floe.configs.sections.reward_sections import RewardSection

HARD_STOP_GRACE_S = 0.5  # CPU seconds for the polite stop before the timer ends the child


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorSettings:
    """Limits and semantics; times in seconds of CPU time, sizes in bytes."""

    program: ClassVar[str] = "floe.reward_service.sandbox.executor_child"
    title: ClassVar[str] = "the executor"

    databases_dir: str
    suite_dir: str | None
    semantics: str
    float_tolerance: float
    clock: str  # UTC, in fixed_clock.INSTANT_FORMAT
    time_limit_s: float
    max_rows: int
    max_result_bytes: int
    max_memory_bytes: int
    max_cell_bytes: int
    max_sql_bytes: int
    max_expression_depth: int
    max_compound_selects: int
    max_like_pattern_bytes: int

    @classmethod
    def from_section(cls, databases_dir: Path, section: RewardSection) -> Self:
        """Make settings of a section. Raises UserError for a missing suite: without it, wrong answers would pass."""
        if section.suite is not None and not section.suite.expanduser().is_dir():
            from floe.configs.files.paths import RELATIVE_RULE  # which an executor has no use for

            raise UserError(
                f"reward.suite is {section.suite}, which is not a folder: give that of <db_id>/*.sqlite "
                f"({RELATIVE_RULE})."
            )
        return cls(
            databases_dir=str(databases_dir.expanduser().absolute()),
            suite_dir=None if section.suite is None else str(section.suite.expanduser().absolute()),
            semantics=section.semantics,
            float_tolerance=section.float_tolerance,
            clock=time.strftime(INSTANT_FORMAT, time.gmtime()) if section.clock == "auto" else section.clock,
            time_limit_s=section.time_limit_s,
            max_rows=section.max_rows,
            max_result_bytes=section.max_result_bytes,
            max_memory_bytes=section.max_memory_bytes,
            max_cell_bytes=section.max_cell_bytes,
            max_sql_bytes=section.max_sql_bytes,
            max_expression_depth=section.max_expression_depth,
            max_compound_selects=section.max_compound_selects,
            max_like_pattern_bytes=section.max_like_pattern_bytes,
        )

    @property
    def sizes(self) -> StatementSizes:
        return StatementSizes(
            max_memory_bytes=self.max_memory_bytes,
            max_cell_bytes=self.max_cell_bytes,
            max_sql_bytes=self.max_sql_bytes,
            max_expression_depth=self.max_expression_depth,
            max_compound_selects=self.max_compound_selects,
            max_like_pattern_bytes=self.max_like_pattern_bytes,
        )

    @property
    def hard_limit_s(self) -> float:
        return self.time_limit_s + HARD_STOP_GRACE_S

    @property
    def wall_limit_s(self) -> float:
        """Seconds of the safety net: far above what the CPU-time limit takes on a busy machine."""
        return 10 * self.time_limit_s + 30

    @property
    def max_process_bytes(self) -> int:
        """Bytes that a child may add to its address space: SQLite's heap, and rows and their sets outside of it."""
        return self.max_memory_bytes + 8 * self.max_result_bytes + 512 * 2**20

    @property
    def recycle_bytes(self) -> int:
        """Resident memory above which a child is replaced after its group."""
        return self.max_memory_bytes + 2 * self.max_result_bytes + 128 * 2**20
