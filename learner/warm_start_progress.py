"""Progress of a supervised warm start, from which an interrupted one continues."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from floe.cluster.messages import WarmStartReport
from floe.configs.files.foreign_files import parsed_json

FILE = "progress.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStartProgress:
    """State after an evaluation. The engine's state of the same moment is saved with it, in the folder `tag`."""

    num_batches: int = 0
    num_worse: int = 0  # evaluations since the best one
    best: WarmStartReport | None = None

    @property
    def tag(self) -> str:
        return f"batch-{self.num_batches}"

    def after(self, report: WarmStartReport, num_batches: int) -> WarmStartProgress:
        if report.is_best:
            return WarmStartProgress(num_batches=num_batches, best=report)
        return WarmStartProgress(num_batches=num_batches, num_worse=self.num_worse + 1, best=self.best)

    def write(self, folder: Path) -> None:
        """Replace the file as a whole, and only then remove older checkpoints."""
        draft = folder / f"{FILE}.draft"
        draft.write_text(json.dumps(asdict(self)))
        os.replace(draft, folder / FILE)
        for old in folder.glob("batch-*"):
            if old.name != self.tag:
                shutil.rmtree(old)

    @classmethod
    def read(cls, folder: Path) -> WarmStartProgress:
        """Return the last progress written; the beginning when there is none."""
        path = folder / FILE
        if not path.is_file():
            return cls()
        found = parsed_json(path.read_text())
        best = found["best"]
        return cls(**(found | {"best": None if best is None else WarmStartReport(**best)}))
