"""Compares what two runs must have in common when one was disturbed (pure but for reading their folders)."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from floe.cluster.run_folder.file_names import LATEST_ADAPTER, METRICS_FILE, ROLLOUTS_FILE

TIMED = ("_s", "_seconds")  # endings of the names of metrics that are times or rates
# Counted since a process's start, or of losses, or of what a process still knew.
OF_THE_PROCESSES = (
    "reward_num_", "reward_cached_", "reward_lost_", "reward_replaced_", "replaced_actors", "cached_prompt_share",
    "reward_max_", "ready_steps", "memory_",
)  # fmt: skip
CANDIDATE = "step, question_id, sample_index, reward, outcome, adapter_version, num_tokens, sql, completion"
MAX_EXAMPLES = 6  # of each kind
MAX_EXAMPLE_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Difference of a disturbed run to the undisturbed one."""

    num_steps: int
    num_questions: int  # groups of the undisturbed run
    num_lost: int  # candidates of the undisturbed run that the disturbed one lacks
    num_doubled: int  # candidates that are there more than once
    num_metrics: int  # values that differ, times and counts of processes aside
    metric_names: tuple[str, ...]  # of those, each once
    adapter: float  # largest absolute difference of a weight
    examples: tuple[str, ...] = ()  # the first candidates and metrics that differ, to help find the cause

    @property
    def is_none(self) -> bool:
        return not (self.num_lost or self.num_doubled or self.num_metrics or self.adapter)


def difference(undisturbed: Path, disturbed: Path) -> Difference:
    """Return the difference of two run folders that have ended."""
    before, after = (_candidates(run_dir) for run_dir in (undisturbed, disturbed))
    steps, other_steps = (_metrics(run_dir) for run_dir in (undisturbed, disturbed))
    unequal = [
        (step, name, one.get(name), other.get(name))
        for step, (one, other) in enumerate(zip(steps, other_steps, strict=False), start=1)
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]
    return Difference(
        num_steps=len(other_steps),
        num_questions=len({row[:2] for row in before}),
        num_lost=sum((before - after).values()),
        num_doubled=sum(count - 1 for count in after.values()),
        num_metrics=len(unequal) + abs(len(steps) - len(other_steps)),
        metric_names=tuple(sorted({name for _, name, _, _ in unequal})),
        adapter=_adapter_difference(undisturbed, disturbed),
        examples=(
            *_shown("only undisturbed: ", before - after),
            *_shown("only disturbed: ", after - before),
            *(f"record {step}: {name} {one} -> {other}" for step, name, one, other in unequal[:MAX_EXAMPLES]),
        ),
    )


def _shown(mark: str, candidates: Counter[tuple[Any, ...]]) -> list[str]:
    rows = sorted(candidates, key=lambda row: row[:3])[:MAX_EXAMPLES]
    return [f"{mark}{row}"[:MAX_EXAMPLE_CHARACTERS] for row in rows]


def _candidates(run_dir: Path) -> Counter[tuple[Any, ...]]:
    connection = sqlite3.connect(run_dir / ROLLOUTS_FILE)
    try:
        return Counter(connection.execute(f"SELECT {CANDIDATE} FROM rollouts"))
    finally:
        connection.close()


def _metrics(run_dir: Path) -> list[dict[str, Any]]:
    return [
        {
            name: value
            for name, value in json.loads(line).items()
            if not name.endswith(TIMED) and not name.startswith(OF_THE_PROCESSES)
        }
        for line in (run_dir / METRICS_FILE).read_text().splitlines()
    ]


def _adapter_difference(undisturbed: Path, disturbed: Path) -> float:
    one, other = (
        load_file(run_dir / LATEST_ADAPTER / "adapter_model.safetensors") for run_dir in (undisturbed, disturbed)
    )
    if one.keys() != other.keys():
        return float("inf")
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)
