"""A home that can't be written or found, and two first uses of it at the same time."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Barrier, Event, Thread

import pytest

from floe.cluster import cli, environment
from floe.cluster.models.model_folder import made_once
from floe.cluster.run_folder.layout import new_run_dir
from floe.configs.errors import ConfigError, UserError
from floe.configs.files.loading import load_config
from tests.command_line import config


def test_a_home_that_cant_be_written_ends_in_a_sentence_that_names_it(monkeypatch, capfd):
    monkeypatch.delenv("FLOE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc/no-home")
    monkeypatch.setattr(sys, "argv", ["floe", "prompt", "--config", config("smoke.yaml"), "--question", "0"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capfd.readouterr().err
    assert ended.value.code == 2, said
    assert said.startswith("floe: /proc/no-home/.floe/demo can't be written (") and "set FLOE_HOME or run.home" in said


def test_a_run_folder_that_cant_be_made_names_what_to_set():
    with pytest.raises(UserError, match=r"^Can't make the run folder /proc/no-home/.* FLOE_HOME or run\.home"):
        new_run_dir(load_config(None, ["run.home=/proc/no-home"]), None)


def test_a_home_that_nobody_knows(monkeypatch):
    def unknown(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", unknown)
    with pytest.raises(ConfigError, match=r"set HOME, FLOE_HOME or run\.home"):
        _ = load_config(None).run.home_dir
    assert environment.logs_dir().is_absolute()


@pytest.mark.parametrize("given", ["run.name=mine", "run.home=runs"])
def test_a_run_folder_in_what_a_ray_job_was_sent_is_refused(monkeypatch, tmp_path, given):
    sent = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0f1e"
    sent.mkdir(parents=True)
    monkeypatch.chdir(sent)
    run_dir = None if given.startswith("run.home") else Path("runs/mine")
    with pytest.raises(UserError, match=r"goes with it: give an absolute --run-dir, FLOE_HOME or run\.home"):
        new_run_dir(load_config(None, [given]), run_dir)
    assert os.listdir(sent) == []
    assert new_run_dir(load_config(None, [given]), tmp_path / "mine").is_dir()


def test_of_two_first_uses_the_one_that_is_ready_first_gives_the_folder(tmp_path, monkeypatch):
    folder, first_is_in_use = tmp_path / "models" / "tiny", []
    process_id = os.getpid()

    def slow(beside: Path) -> None:
        (beside / "model").write_text("slow")
        monkeypatch.setattr(os, "getpid", lambda: process_id + 1)  # like that of another process
        made_once(folder, lambda other: (other / "model").write_text("quick"))
        first_is_in_use.append(folder.stat().st_ino)

    made_once(folder, slow)
    assert [folder.stat().st_ino] == first_is_in_use and (folder / "model").read_text() == "quick"
    assert [one.name for one in folder.parent.iterdir()] == ["tiny"]


def test_two_that_are_ready_at_the_same_instant(tmp_path, monkeypatch):
    """Each finds no folder, and renames its own: one is left, whole."""
    folder, faults, ready, numbers = tmp_path / "tiny", [], Barrier(2), iter((1, 2))
    monkeypatch.setattr(os, "getpid", lambda: next(numbers))
    others = Event()

    def write(beside: Path) -> None:
        (beside / "model").write_text(beside.name)
        ready.wait(60)

    def make() -> None:
        try:
            made_once(folder, write)
        except OSError as fault:
            faults.append(fault)
        others.set()

    threads = [Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == [] and others.is_set()
    assert (folder / "model").read_text().startswith("tiny.writing-")
    assert [one.name for one in tmp_path.iterdir()] == ["tiny"]
