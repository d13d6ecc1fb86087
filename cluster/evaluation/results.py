"""Reads the small result files of a run's folder; each may be missing or written by another version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from floe.cluster.evaluation.before_after_table import EvaluationReport
from floe.cluster.run_folder.file_names import BEST_RESULT, REPORT_FILE
from floe.cluster.tracking.last_records import last_records
from floe.configs.files.foreign_files import parsed_json, read_regular


@dataclass(frozen=True, slots=True, kw_only=True)
class BestInterim:
    """The best adapter by the evaluations during training."""

    adapter_version: int
    greedy: float
    num_questions: int


def read_best(run_dir: Path) -> BestInterim | None:
    """Return the best; None where nothing was evaluated during training, or the file can't be read."""
    try:
        best = parsed_json(read_regular(run_dir / BEST_RESULT))
        return BestInterim(
            adapter_version=best["adapter_version"], greedy=float(best["greedy"]), num_questions=best["num_questions"]
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def read_report(run_dir: Path) -> EvaluationReport | None:
    """Return the run's before/after table, None before there is one. Raises ValueError for a file that holds none."""
    path = run_dir / REPORT_FILE
    return TypeAdapter(EvaluationReport).validate_json(path.read_bytes()) if path.is_file() else None


def last_step(metrics: Path) -> int:
    """Return the step of the last whole record; 0 where there is none."""
    for record in last_records(metrics):
        try:
            return int(record["step"])
        except (ValueError, KeyError, TypeError, OverflowError):
            continue
    return 0
