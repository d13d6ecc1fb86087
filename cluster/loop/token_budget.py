"""Limits how many tokens a run may generate (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from floe.cluster.messages import ScoredGroup
from floe.cluster.run_folder.file_names import METRICS_FILE
from floe.configs.files.foreign_files import parsed_json


class TokenBudget:
    """Budget in tokens; a step that begins within it is finished."""

    def __init__(self, max_tokens: int | None = None, num_spent: int = 0) -> None:
        """Start with `num_spent` tokens; without `max_tokens` there is no limit."""
        self._max_tokens = max_tokens
        self.num_spent = num_spent

    def spend(self, groups: Sequence[ScoredGroup]) -> None:
        self.num_spent += sum(len(one.token_ids) for group in groups for one in group.rollout.completions)

    @property
    def is_spent(self) -> bool:
        return self._max_tokens is not None and self.num_spent >= self._max_tokens


def tokens_generated(run_dir: Path) -> int:
    """Return the tokens generated in the steps that the run's metrics record."""
    path = run_dir / METRICS_FILE
    if not path.is_file():
        return 0
    return sum(parsed_json(line)["generated_tokens"] for line in path.read_text(encoding="utf-8").splitlines())
