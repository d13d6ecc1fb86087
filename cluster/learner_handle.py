"""The learner's actor as the main loop sees it: plain calls with a time limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError

from cluster.messages import AdapterManifest, ScoredGroup, StepReport


class LearnerHandle:
    def __init__(self, handle: Any, timeout_s: float) -> None:
        self._handle = handle
        self._timeout_s = timeout_s

    def update(self, step: int, groups: Sequence[ScoredGroup]) -> StepReport:
        return self._wait(self._handle.update.remote(step, groups), f"the update of step {step}")

    def export_adapter(self, version: int) -> AdapterManifest:
        return self._wait(self._handle.export_adapter.remote(version), f"the export of version {version}")

    def save_adapter(self, folder: Path) -> None:
        self._wait(self._handle.save_adapter.remote(folder), f"saving the adapter to {folder}")

    def stop(self) -> None:
        ray.kill(self._handle)

    def _wait(self, ref: Any, what: str) -> Any:
        try:
            return ray.get(ref, timeout=self._timeout_s)
        except GetTimeoutError as fault:
            raise TimeoutError(f"{what} took more than {self._timeout_s:g} s") from fault
