"""A benchmark table with a real engine: two data sets, base and adapter, killed after one cell and continued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from floe.actors.demo.build import write_demo
from floe.cluster.benchmark_table.cell_store import CELL_FILE, CellStore
from floe.cluster.models.model_folder import model_folder
from floe.configs.files.loading import load_config
from tests.command_line import REPOSITORY, config, floe
from tests.peft_adapters import save_adapter
from tests.preloaded.python import preloaded_python

pytestmark = [pytest.mark.engine, pytest.mark.long]

NUM_QUESTIONS = 6
LIMIT_S = 1800


def benchmarks_file(tmp_path: Path, home: Path) -> Path:
    """Write a file with the same questions under two names, so that each policy must answer both alike."""
    write_demo(tmp_path / "demo")
    smoke = load_config(config("smoke.yaml"), [f"run.home={home}"])
    shape = {"r": smoke.lora.rank, "lora_alpha": smoke.lora.alpha, "target_modules": list(smoke.lora.target_modules)}
    save_adapter(tmp_path / "adapter", model_folder(smoke, home / "demo"), **shape)
    entry = {"questions": "demo/test.json", "databases": "demo/databases", "limit": NUM_QUESTIONS}
    table = {
        "config": config("smoke.yaml"),
        "samples": 2,
        "benchmarks": [{"name": "one"} | entry, {"name": "two"} | entry, {"name": "gone", "data": "nowhere"}],
        "policies": [{"name": "base", "base": True}, {"name": "trained", "adapter": "adapter"}],
    }
    path = tmp_path / "benchmarks.yaml"
    path.write_text(json.dumps(table))
    return path


def test_a_table_killed_after_one_cell_goes_on_with_one_engine_for_the_others(other_home, tmp_path):
    out = tmp_path / "out"
    arguments = (
        "evaluate", "--benchmarks", str(benchmarks_file(tmp_path, other_home)), "--out", str(out), "--json",
        "cluster.address=local", "model.dtype=float32", "rollout.dtype=float32",
    )  # fmt: skip
    killed = subprocess.run(
        [preloaded_python(), "-m", "tests.killed_driver", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"FLOE_HOME": str(other_home), "FLOE_KILL": "cell:1", "PYTHONPATH": str(REPOSITORY)},
        timeout=LIMIT_S,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-4000:]
    store = CellStore(out)
    first = store.cell_folder("one", "base") / CELL_FILE
    before = first.stat().st_mtime_ns
    assert [store.key(*place) is None for place in (("one", "base"), ("one", "trained"))] == [False, True]

    done = floe(*arguments, home=other_home)
    assert done.returncode == 3, done.stderr[-4000:]  # a data set is missing
    assert first.stat().st_mtime_ns == before
    assert "1 of 4 cells are there already" in done.stderr and done.stderr.count("one engine for all cells") == 1
    table = json.loads(done.stdout)
    assert [(row["name"], row["num_questions"]) for row in table["rows"]] == [
        ("one", NUM_QUESTIONS),
        ("two", NUM_QUESTIONS),
        ("gone", 0),
    ]
    assert "There is no data folder" in table["rows"][2]["fault"] and table["macro_of"] == ["one", "two"]
    assert all("pass@2" in cell["figures"] for row in table["rows"][:2] for cell in row["cells"])
    answers = {
        place: [(record.greedy.sql, record.num_executes) for record in store.evaluation(*place).records]
        for place in ((name, policy) for name in ("one", "two") for policy in ("base", "trained"))
    }
    # The base model answers as before an adapter was installed, and the adapter as at its first installation.
    assert answers["one", "base"] == answers["two", "base"]
    assert answers["one", "trained"] == answers["two", "trained"] != answers["one", "base"]
