"""Trainings from Python on the real parts, all in this process: stopped, resumed, failed, and what they leave."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas
import psutil
import pytest
import ray

import floe
from floe.actors.questions.questions import read_questions
from floe.cluster.run_folder.file_names import LATEST_ADAPTER, METRICS_FILE, QUESTIONS_FILE
from floe.cluster.run_folder.lock import run_lock
from tests.command_line import REPOSITORY
from tests.ray_processes import descendants

pytestmark = [pytest.mark.engine, pytest.mark.long]

OVERRIDES = {"cluster.address": "local", "evaluation.enabled": False}
SMALL = {
    "cluster.address": "local",
    "run.num_steps": 1,
    "warm_start.enabled": False,
    "evaluation.max_questions": 3,
    "evaluation.num_samples": 2,
}
WEIGHTS = f"{LATEST_ADAPTER}/adapter_model.safetensors"


@pytest.fixture(autouse=True)
def home_of_runs(home, monkeypatch) -> None:
    monkeypatch.setenv("FLOE_HOME", str(home))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Compare the process after each test with what it was before."""
    before = state_of_process()
    yield
    assert state_of_process() == before


def state_of_process() -> dict[str, object]:
    return {
        "children": {one.pid for one in psutil.Process().children(recursive=True)},
        "actors": {one.pid for one in descendants(psutil.Process()) if one.name().startswith("ray::")},
        "threads": {one.name for one in threading.enumerate() if not one.name.startswith("pytest")},
        "variables": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        "module path": list(sys.path),
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "has ray": ray.is_initialized(),
    }


@contextmanager
def after_first_step(run_dir: Path, act: Callable[[], object], *, again: bool = False) -> Iterator[None]:
    """Do `act` in a thread once the run has recorded a step; `again` and again until the block ends."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            if (run_dir / METRICS_FILE).is_file() and (run_dir / METRICS_FILE).read_bytes().count(b"\n"):
                act()
                if not again:
                    return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_after_ctrl_c_a_resume_in_the_same_process_makes_the_commands_adapter(smoke_run, tmp_path):
    run_dir = tmp_path / "run"
    with after_first_step(run_dir, lambda: os.kill(os.getpid(), signal.SIGINT)), pytest.raises(floe.Interrupted):
        floe.train(preset="smoke", overrides=OVERRIDES, run_dir=run_dir)
    assert floe.Run(run_dir).state == "interrupted" and len(floe.Run(run_dir).records) < 3
    assert not ray.is_initialized()
    run = floe.resume(run_dir)
    assert run.state == "finished" and list(run.metrics["step"]) == [1, 2, 3]
    assert (run_dir / WEIGHTS).read_bytes() == (smoke_run.run_dir / WEIGHTS).read_bytes()


def test_the_examples_of_the_page_run(smoke_run, tmp_path, monkeypatch, capsys):
    """The blocks of docs/python.md in their order, at smoke sizes, in a folder with the demo's data and a reward."""
    demo = smoke_run.home / "demo"
    records = json.loads((demo / "train.json").read_text())
    frame = pandas.DataFrame(records[:: len(records) // 60])
    frame.to_csv(tmp_path / "questions.csv", index=False)
    (tmp_path / "databases").symlink_to(demo / "databases")
    (tmp_path / "own_reward.py").write_text(
        "def seven(group, more):\n    return [7.0 + more * one.outcome.executes for one in group.candidates]\n"
    )
    monkeypatch.chdir(tmp_path)
    own = {"overrides": SMALL, "reward": "own_reward:seven", "reward_arguments": {"more": 0.5}}
    names = {"own": own, "smoke_run": smoke_run.run_dir}
    for block in re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "python.md").read_text(), flags=re.DOTALL):
        code = block.replace('floe.train(preset="quickstart")', "floe.Run(smoke_run)")
        exec(code.replace('preset="quickstart"', 'preset="smoke", **own'), names)

    run, evaluation, answer = names["run"], names["evaluation"], names["answer"]
    assert run.folder == tmp_path / "first-run" and list(run.metrics["step"]) == [1, 2]
    assert run.config.reward.design == "own_reward:seven" and (run.metrics["reward_mean"] > 7).all()
    assert [one.text for one in read_questions(run.folder / QUESTIONS_FILE)] == list(frame["question"])
    assert names["adapter"] == run.folder / LATEST_ADAPTER and names["page"] == run.folder / "report.html"
    assert "GRPO" in repr(run.table) and "<pre" in run._repr_html_()
    assert [one.question_id for one in evaluation.records] == ["0", "1", "2"]
    assert evaluation.pass_at.keys() == {1, 2} and evaluation.greedy.num_questions == 3
    assert evaluation.save(tmp_path / "saved").is_file() and "pass@2" in repr(evaluation)
    assert (answer.fault is None) == bool(answer.columns) and answer.html.startswith("<pre")
    assert [one.outcome for one in names["scores"]] == ["mismatch", "match"]
    assert "GRPO" in capsys.readouterr().out


@pytest.mark.soak
def test_databases_that_go_away_end_it_and_it_goes_on_when_they_are_back(home, tmp_path):
    run_dir, databases, elsewhere = tmp_path / "run", tmp_path / "databases", tmp_path / "elsewhere"
    shutil.copytree(home / "demo" / "databases", databases)
    overrides = {**OVERRIDES, "warm_start.enabled": False, "run.num_steps": 8}
    with (
        after_first_step(run_dir, lambda: databases.rename(elsewhere)),
        pytest.raises(floe.UserError, match="max_dropped_share"),
    ):
        floe.train(
            home / "demo" / "train.json",
            databases=databases,
            preset="smoke",
            overrides=overrides,
            run_dir=run_dir,
            progress=False,
        )
    assert floe.Run(run_dir).state == "failed" and 1 <= len(floe.Run(run_dir).records) < 8
    elsewhere.rename(databases)
    assert len(floe.resume(run_dir, progress=False).records) == 8


@pytest.mark.soak
def test_a_disk_that_fills_ends_it_and_it_goes_on_with_room(tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / METRICS_FILE).symlink_to("/dev/full")  # each write ends with 'no space left'
    with pytest.raises(floe.UserError, match="The disk is full"):
        floe.train(preset="smoke", overrides=OVERRIDES, run_dir=run_dir, progress=False)
    assert floe.Run(run_dir).state == "failed"
    (run_dir / METRICS_FILE).unlink()
    assert len(floe.resume(run_dir, progress=False).records) == 3


@pytest.mark.soak
def test_reward_workers_that_never_come_back_end_it(tmp_path):
    """The run waits for them as long as for a start."""
    run_dir = tmp_path / "run"

    def kill_workers() -> None:
        for one in descendants(psutil.Process()):
            with suppress(psutil.NoSuchProcess):
                if one.name().startswith("ray::Scorer"):
                    one.kill()

    with after_first_step(run_dir, kill_workers, again=True), pytest.raises(floe.UserError, match="max_dropped_share"):
        floe.train(preset="smoke", overrides=OVERRIDES, run_dir=run_dir, progress=False)
    assert floe.Run(run_dir).state == "failed"


def test_a_folder_that_goes_away_ends_it_in_another_thread_without_a_word(tmp_path, capfd):
    run_dir, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    faults: list[BaseException] = []

    def call() -> None:
        try:
            overrides = {**OVERRIDES, "run.num_steps": 9}
            floe.train(preset="smoke", overrides=overrides, run_dir=run_dir, progress=False)
        except BaseException as fault:
            faults.append(fault)

    with after_first_step(run_dir, lambda: run_dir.rename(elsewhere)):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    (fault,) = faults
    assert isinstance(fault, floe.UserError) and "was moved or deleted" in str(fault)
    assert capfd.readouterr() == ("", "")
    with run_lock(elsewhere):  # free
        pass
