"""The guard with its defaults on the recorded metrics of real runs that went well: it says nothing."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from floe.cluster.health.detectors import FIGURES_OF
from floe.cluster.health.figures import figures_of
from tests.command_line import REPOSITORY
from tests.health_series import found_in

FOLDER = REPOSITORY / "docs" / "record" / "healthy_runs"
RUNS = sorted(path.name.removesuffix(".jsonl.gz") for path in FOLDER.glob("*.jsonl.gz"))
DESIGNS = ("arctic", "graph_reward", "reasoning_sql", "sql_r1")
# Detectors that a run of each kind feeds; the records are older than the figures of the others.
ALWAYS = {"equal_rewards", "entropy_low", "entropy_falling", "truncation", "length_drift"}
FED = dict.fromkeys(DESIGNS, ALWAYS | {"executes_not_right"}) | {
    "graph_reward": ALWAYS,  # a design that runs nothing
    "quickstart": ALWAYS | {"executes_not_right"},
}


def records_of(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress((FOLDER / f"{run}.jsonl.gz").read_bytes()).splitlines()]


def fed(records: list[dict[str, Any]], window_steps: int) -> set[str]:
    """Return the detectors whose figures are known in at least half of a window."""
    return {
        detector
        for detector, names in FIGURES_OF.items()
        if all(sum(one.get(name) is not None for one in records) >= window_steps / 2 for name in names)
    }


def test_the_runs_are_three_seeds_of_four_designs_and_the_quickstart():
    assert set(RUNS) == {"quickstart"} | {f"{design}-seed{seed}" for design in DESIGNS for seed in (1, 2, 3)}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 200_000


@pytest.mark.parametrize("run", RUNS)
def test_a_run_that_went_well_has_no_finding(run):
    records = records_of(run)
    assert fed(records, 8) == FED[run.partition("-seed")[0]]
    assert found_in([figures_of(one["step"], one) for one in records]) == []


@pytest.mark.parametrize("run", RUNS)
def test_with_a_window_of_half_the_length_it_has_none_either(run):
    records = records_of(run)
    assert found_in([figures_of(one["step"], one) for one in records], window_steps=4) == []


@pytest.mark.parametrize("run", RUNS)
def test_the_same_run_with_a_planted_fault_has_one(run):
    records = records_of(run)
    half = len(records) // 2
    cut = [one | {"truncated_share": 1.0 if i >= half else one["truncated_share"]} for i, one in enumerate(records)]
    assert {one.detector for one in found_in([figures_of(one["step"], one) for one in cut])} == {"truncation"}
