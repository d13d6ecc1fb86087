"""A run's configuration holds no path that means another place from another folder, or when its home has moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from floe.cluster.run_folder.layout import config_of_run
from floe.configs.files.loading import load_config
from tests.run_folders import run_folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.path", "base"),
        ("data.questions", "q.json"),
        ("data.databases", "databases"),
        ("data.prepared", "../prepared"),
        ("data.verification", "./verified.json"),
        ("reward.suite", "suite"),
        ("reward.graph_network", "network"),
        ("run.home", "home"),
        ("run.mlflow_uri", "mlruns"),
    ],
)
def test_what_is_relative_is_seen_from_the_folder_where_the_run_was_made(here, key, value):
    section, _, field = key.partition(".")
    found = getattr(getattr(load_config(None, [f"{key}={value}", "reward.semantics=spider"]), section), field)
    assert str(found) == str(here / value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.path", "embedded:tiny-qwen2"),
        ("model.path", "Qwen/Qwen2.5-0.5B"),
        ("data.questions", "/data/q.json"),
        ("run.mlflow_uri", "http://localhost:5000"),
        ("run.mlflow_uri", "databricks"),
        ("run.name", "base"),
    ],
)
def test_what_is_the_same_from_everywhere_stays(key, value):
    section, _, field = key.partition(".")
    assert str(getattr(getattr(load_config(None, [f"{key}={value}"]), section), field)) == value


def test_a_home_that_has_moved_is_the_variables(here, monkeypatch):
    run_dir = run_folder(here / "run", overrides=["run.home=/gone"])
    assert config_of_run(run_dir, ()).run.home == Path("/gone")
    monkeypatch.setenv("FLOE_HOME", str(here / "moved"))
    assert config_of_run(run_dir, ()).run.home == here / "moved"
    assert config_of_run(run_dir, [f"run.home={here}"]).run.home == here
