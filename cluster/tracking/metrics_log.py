"""Writes each step's record to `metrics.jsonl`, and passes it on to the other sinks."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from floe.cluster.health.finding import HealthFinding
from floe.cluster.messages import Outcome
from floe.cluster.run_folder.file_names import METRICS_FILE
from floe.cluster.run_folder.folder_faults import gone
from floe.cluster.tracking.gpu_step import GpuStep
from floe.cluster.tracking.record_sink import RecordSink, RunEnd
from floe.cluster.tracking.reward_metrics import RewardMetrics
from floe.cluster.tracking.source_metrics import flat_by_source
from floe.cluster.tracking.step_metrics import InterimResult, RoleMemory, StepMetrics
from floe.cluster.tracking.tensorboard_curves import forget_curves_after


class MetricsLog:
    """Appends to a run folder, which it makes; a record is on disk when `write` returns."""

    def __init__(self, run_dir: Path, sinks: Sequence[RecordSink] = ()) -> None:
        """Open the file; closing it closes the sinks too."""
        run_dir.mkdir(parents=True, exist_ok=True)
        self._run_dir = run_dir
        self._file = (run_dir / METRICS_FILE).open("a", encoding="utf-8")
        self._sinks = sinks

    def write(
        self,
        record: StepMetrics,
        rewards: RewardMetrics | None = None,
        evaluated: InterimResult | None = None,
        memory: RoleMemory | None = None,
        gpus: GpuStep | None = None,
        findings: Sequence[HealthFinding] = (),
    ) -> None:
        """Write one JSON line, where a value that is not finite is null.

        The sinks get the same numbers, but in place of `groups_by_staleness` one for each staleness. The reward
        workers' numbers have the prefix `reward_`, their counts of outcomes `outcome_`, the roles' memory `memory_`,
        the cards' readings `gpu_`, the figures of a draw by pass rates `draw_`, and after a step with an evaluation its
        numbers `eval_`. In a mixture the numbers of a source are `source/<name>/...`. `health_findings` are what the
        guard found after the step, where it found something; the sinks get their number.
        """
        numbers = asdict(record) | ({} if rewards is None else _flat(rewards))
        by_staleness = numbers.pop("groups_by_staleness")
        del numbers["draw"]
        for prefix, part in (("memory", memory), ("eval", evaluated), ("draw", record.draw)):
            if part is not None:
                numbers |= {f"{prefix}_{name}": value for name, value in asdict(part).items() if name != "by_source"}
        if gpus is not None:
            numbers |= {f"gpu_{name}": value for name, value in gpus.values().items()}
        del numbers["by_source"]
        if record.supervised_loss is None:
            del numbers["supervised_loss"]
        numbers |= flat_by_source(record.by_source, () if evaluated is None else evaluated.by_source)
        values = {name: _finite_or_none(value) for name, value in numbers.items()}
        lists: dict[str, Any] = {"groups_by_staleness": by_staleness}
        if findings:
            lists["health_findings"] = [one.values() for one in findings]
        self._file.write(json.dumps(values | lists, allow_nan=False) + "\n")
        self._file.flush()
        values["health_findings"] = len(findings)
        values |= {f"groups_of_staleness_{staleness}": count for staleness, count in enumerate(by_staleness)}
        del values["step"]
        for sink in self._sinks:
            sink.write(record.step, values)

    def check_in_place(self) -> None:
        """Raise UserError when the folder is gone: a deleted file still takes what is written to it."""
        try:
            is_there = os.path.samestat(os.fstat(self._file.fileno()), (self._run_dir / METRICS_FILE).stat())
        except OSError:
            is_there = False
        if not is_there:
            raise gone(self._run_dir)

    @property
    def position(self) -> int:
        """Return the bytes of the file up to the last record's end."""
        return self._file.tell()

    def close(self, end: RunEnd = RunEnd.FINISHED) -> None:
        """Close the file and the sinks; a second call does nothing."""
        if self._file.closed:
            return
        try:
            self._file.close()  # on a full disk it fails again
        finally:
            for sink in self._sinks:
                sink.close(end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        self.close(RunEnd.of(fault))


def forget_metrics_after(run_dir: Path, step: int, position: int) -> str:
    """Drop what a run recorded of steps after `step`, whose records end at byte `position`; nobody may be writing.

    Returns a sentence when a crash of the machine lost earlier records; a half-written record goes too.
    """
    path, lost = run_dir / METRICS_FILE, ""
    size = path.stat().st_size if path.is_file() else 0
    if size > position:
        os.truncate(path, position)
    elif size < position:
        num_whole_bytes = path.read_bytes().rfind(b"\n") + 1 if size else 0
        if size:
            os.truncate(path, num_whole_bytes)
        lost = (
            f"{METRICS_FILE} ends {position - num_whole_bytes:,} bytes before the checkpoint of step {step}: the "
            "records of steps before it that are not there were lost, as in a loss of power"
        )
    forget_curves_after(run_dir, step)
    return lost


def _flat(rewards: RewardMetrics) -> dict[str, float]:
    numbers = asdict(rewards)
    outcomes, terms, equal_terms = (numbers.pop(name) for name in ("outcomes", "terms", "equal_terms"))
    return (
        {f"reward_{name}": value for name, value in numbers.items()}
        | {f"reward_term_{name}": value for name, value in terms.items()}
        | {f"reward_equal_term_{name}": value for name, value in equal_terms.items()}
        | {f"outcome_{outcome.value}": outcomes.get(outcome.value, 0) for outcome in Outcome}
    )


def _finite_or_none(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
