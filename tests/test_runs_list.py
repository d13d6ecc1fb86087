"""`floe runs`: the folders that are runs, what is said of each, and their order."""

from __future__ import annotations

import json

import pytest

from floe.cluster.operations.runs import last_step, runs
from floe.cluster.run_folder.status import RunState
from floe.configs.errors import UserError
from tests.run_folders import run_folder, small_run, write_metrics, write_status


@pytest.fixture
def home_runs(tmp_path):
    """Make four runs: one that is over, one under way elsewhere, one of an older floe, one without readable files."""
    folder = tmp_path / "runs"
    folder.mkdir()
    small_run(folder / "old")
    under_way = run_folder(folder / "under-way")
    write_status(under_way, RunState.TRAINING, 8, started=1_790_005_000.0)
    write_metrics(under_way, range(1, 8))
    (under_way / "adapters").mkdir()
    best = {"adapter_version": 5, "greedy": 0.4, "executes": 0.9, "num_questions": 50, "seconds": 3, "is_best": True}
    (under_way / "adapters" / "best.json").write_text(json.dumps(best))
    (folder / "no-run").mkdir()
    (folder / "file").write_text("x")
    broken = folder / "broken"
    broken.mkdir()
    for name in ("config.yaml", "status.json", "metrics.jsonl", "report.json"):
        (broken / name).write_text("{nonsense\n")
    return folder


def listed(capsys, *arguments) -> list[dict]:
    runs(*arguments, as_json=True)
    return json.loads(capsys.readouterr().out)


def test_the_newest_comes_first_with_what_is_known_of_it(capsys, home_runs):
    found = listed(capsys, [], home_runs)
    assert [one["name"] for one in found if one["name"] != "broken"] == ["under-way", "old"]
    by_name = {one["name"]: one for one in found}
    assert (by_name["under-way"]["state"], by_name["under-way"]["num_steps_done"]) == ("training", 7)
    assert by_name["under-way"]["best"] == {
        "value": 0.4, "num_questions": 50, "split": "tune", "adapter_version": 5,
    }  # fmt: skip
    old = by_name["old"]
    assert (old["state"], old["num_steps_done"], old["num_steps"]) == ("finished", 3, 3)
    assert (old["best"]["value"], old["best"]["split"]) == (0.75, "test")
    broken = by_name["broken"]
    assert (broken["state"], broken["num_steps_done"], broken["best"]) == ("not known", 0, None)


def test_a_driver_that_is_gone_is_found_dead(capsys, home_runs):
    import socket

    write_status(home_runs / "under-way", RunState.TRAINING, 8, host=socket.gethostname())
    (found,) = listed(capsys, [home_runs / "under-way"], home_runs)
    assert (found["state"], found["is_driver_alive"]) == ("died", False)


def test_the_table_has_a_line_for_each(capsys, home_runs):
    runs([home_runs, home_runs / "old"], home_runs, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    (line,) = [line for line in lines if "under-way" in line]
    assert "training?" in line and "7/20" in line and "40.0 % of 50 tune, version 5" in line
    assert sum(" old " in line for line in lines) == 1, "a run that is named twice is listed once"


def test_no_runs_at_all(capsys, tmp_path):
    runs([], tmp_path / "nothing", as_json=False)
    assert capsys.readouterr().out == f"There is no run in {tmp_path / 'nothing'}.\n"
    assert listed(capsys, [], tmp_path / "nothing") == []
    with pytest.raises(UserError, match="There is no folder"):
        runs([tmp_path / "nothing"], tmp_path, as_json=False)


def test_the_last_step_is_read_from_the_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert last_step(path) == 0
    path.write_text(
        "".join(json.dumps({"step": step, "x": "y" * 500}) + "\n" for step in range(1, 1001)) + '{"step": 1001'
    )
    assert last_step(path) == 1000
